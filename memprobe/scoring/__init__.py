"""Scoring: the only home of the models besides the lab; requests in, spans of statistics out."""
