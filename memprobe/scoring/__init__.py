"""Scoring: turns requests into spans of statistics; besides the lab, only this package runs models."""
