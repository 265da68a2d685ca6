"""The operator's bench: what is needed around a run. Each module is one command's library function."""
