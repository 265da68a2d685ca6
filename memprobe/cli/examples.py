"""Examples of each command, shown below its `--help` and on the reference page of the commands."""

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "demo": ("memprobe demo", "memprobe demo --preset full --seed 1 -o reports/demo-full"),
    "init": ("memprobe init audit --template audit", "memprobe init --template ci"),
    "run": (
        "memprobe run quickstart -m runs/my-model -d items.jsonl -o reports/mine",
        "memprobe run -p recall -m runs/my-model -d items.jsonl --set recall.suffix_tokens=20 --dry-run",
    ),
    "fetch": ("memprobe fetch quickstart -m 'org/name@step{0,1000}' -d items.jsonl",),
    "doctor": ("memprobe doctor", "memprobe doctor --invariance -m runs/my-model"),
    "worker": ("memprobe worker reports/mine", "memprobe worker reports/mine --shard 2/8"),
    "status": ("memprobe status reports/mine",),
    "summary": ("memprobe summary reports/mine", "memprobe summary reports/mine --all"),
    "report": ("memprobe report reports/mine", "memprobe report reports/mine -o audit.html"),
    "plot": (
        "memprobe plot reports/mine",
        "memprobe plot reports/mine --kind recall.hit_frac -o hits.pdf --width-mm 120",
    ),
    "export": (
        "memprobe export reports/mine --to latex --label tab:recall -o results.tex",
        "memprobe export reports/mine --table recall --to csv --dictionary -o recall.csv",
    ),
    "compare": (
        "memprobe compare reports/base reports/new",
        "memprobe compare reports/base reports/new -p recall --metric exact_frac --fail-on worse",
    ),
    "gate": (
        "memprobe gate reports/mine --rules rules.toml",
        "memprobe gate reports/new --rules rules.toml --baseline reports/old --junit gate.xml",
    ),
    "probes ls": ("memprobe probes ls",),
    "probes describe": ("memprobe probes describe extraction",),
    "data check": ("memprobe data check items.jsonl -m runs/my-model -p recall",),
    "data split": (
        "memprobe data split book.txt --by words --prefix 50 --suffix 50 -o cut.jsonl",
        "memprobe data split pile.bin --batch-size 1024 --per-batch 4 -o stream.parquet",
    ),
    "data sort": ("memprobe data sort book.txt -o trials.parquet",),
    "checkpoints ls": ("memprobe checkpoints ls 'org/name@step{0,1000..143000..1000}'",),
    "checkpoints verify": ("memprobe checkpoints verify runs/my-model",),
    "lab train": ("memprobe lab train --text book.txt --checkpoints 11 -o labs/book",),
}


def epilog(command: str) -> str:
    """Return the text below the options in a command's `--help`; the name is without `memprobe`."""
    return "\n".join(("Examples:\n", *EXAMPLES[command]))
