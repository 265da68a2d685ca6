"""Compare two runs: match what they have in common, and estimate differences item by item."""
