"""Probes: one file each, found by discovery; a probe plans what to score and measures from tables."""
