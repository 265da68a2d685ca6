"""Tools around a run: each module is the library function of one command."""
