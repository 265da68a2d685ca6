"""`memprobe fetch`: downloads models, tokenizers and data for a run without a network."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from memprobe.cli import console, options
from memprobe.wording import counted, sized

if TYPE_CHECKING:
    from memprobe.bench.fetching import Fetched


def fetch(
    suite: Annotated[
        str | None, typer.Argument(help="A suite that ships, or a path ending in .toml.", metavar="SUITE")
    ] = None,
    model: options.Model = None,
    data: options.Data = None,
    map_: options.Map = None,
    control: options.Control = None,
    probe: options.ProbeNames = None,
    set_: options.Settings = None,
    steps: options.Steps = None,
    stages: options.Stages = None,
    tokenizer: options.Tokenizer = None,
    limit: options.Limit = None,
    on_bad_item: options.OnBadItem = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Fetch models, tokenizers and data, and print the run that then needs no network."""
    options.begin(quiet, verbose)
    from memprobe.bench.fetching import fetch_all

    given = {
        "model": tuple(model or ()),
        "data": tuple(data or ()),
        "map": tuple(map_ or ()),
        "control": control,
        "steps": steps,
        "stages": stages,
        "tokenizer": tokenizer,
        "limit": limit,
        "on_bad_item": on_bad_item,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
    }
    fetched = fetch_all(
        suite,
        probes=probe or (),
        settings=set_ or (),
        options=given,
        notes=_Notes(),
        bars=not (quiet or console.plain(sys.stderr)),
    )
    _show(fetched, json=json)


def _show(fetched: "Fetched", *, json: bool) -> None:
    from memprobe.bench.fetching import FILE, SUITE

    n_here = len(fetched.checkpoints)
    console.note(
        f"{counted(n_here, 'checkpoint')} on this machine, {fetched.n_fetched} of them fetched now "
        f"({sized(fetched.n_bytes)})"
    )
    words = fetched.command.split()
    if unnamed := [word for word in (SUITE, FILE) if word in words]:
        console.note(f"{' and '.join(unnamed)} in the command stand for your own")
    if json:
        console.show_json(
            {
                "command": fetched.command,
                "n_fetched": fetched.n_fetched,
                "n_bytes": fetched.n_bytes,
                "n_items": fetched.n_items,
                "checkpoints": [
                    {
                        "model": each.model,
                        "revision": each.revision,
                        "step": each.step,
                        "commit": each.commit,
                        "n_bytes": each.n_bytes,
                        "folder": str(each.folder),
                    }
                    for each in fetched.checkpoints
                ],
            }
        )
    else:
        console.show_line(fetched.command)


class _Notes:
    """Writes what is fetched to stderr."""

    def stage(self, name: str) -> None:
        """Do nothing: stages are not reported."""

    def note(self, text: str) -> None:
        """Write a line."""
        console.note(text)
