"""Gate: judge the estimates of a run by rules in TOML, and write the verdict in formats for CI."""
