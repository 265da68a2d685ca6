"""Scoring: the only home of the models beside the lab; requests in, spans of statistics out."""
