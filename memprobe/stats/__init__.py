"""Statistics: functions from arrays to small frozen results; only numpy and scipy, no models and no files."""
