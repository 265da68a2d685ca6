"""Probes: each is a module or folder found by discovery; it plans what to score and measures from tables."""
