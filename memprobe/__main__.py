"""`python -m memprobe`."""

from memprobe.cli import main

main()
