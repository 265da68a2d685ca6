"""The command line: parse, call, print, exit code. Nothing here computes."""


def main() -> None:
    """Run the command line; the entry point of `memprobe` and of `python -m memprobe`."""
    from memprobe.cli.app import app

    app(prog_name="memprobe")
