"""Gate: rules in TOML against the estimates of a run, a verdict for CI, and its output formats."""
