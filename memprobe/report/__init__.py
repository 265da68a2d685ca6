"""Report: result tables to strings."""
