"""Two runs: what they have in common, and the differences between them item by item."""
