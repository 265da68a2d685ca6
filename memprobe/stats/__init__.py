"""Statistics: arrays in, small frozen results out; numpy and scipy, nothing of a model or a file."""
