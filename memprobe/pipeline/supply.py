"""Checkpoints on the hub: the check that they can be fetched, and the cache that fetches them."""

from memprobe.checkpoints import (
    CheckpointCache,
    check_supply,
    run_name,
)
from memprobe.pipeline.listener import Listener
from memprobe.pipeline.prepare import Prepared
from memprobe.tables.store import RunStore
from memprobe.wording import sized


def check_supplies(prepared: Prepared, store: RunStore | None) -> None:
    """Check that checkpoints to score that are not on this machine can be fetched and fit on the disk.

    Args:
        prepared: The question.
        store: Run directory that may hold units already; None: nothing was scored yet.

    Raises:
        InputError: The hub does not answer, or the disk has too little room.
        SafetyError: A download is needed and the network may not be used.
    """
    needed = [
        checkpoint
        for sequence, plan in zip(prepared.sequences, prepared.plans, strict=True)
        for checkpoint, target in zip(sequence.checkpoints, plan.targets, strict=True)
        if store is None or not all(store.has_unit(target.context, unit) for unit in plan.units)
    ]
    options = prepared.options
    check_supply(needed, keep=options.keep_checkpoints, offline=options.offline)


def checkpoint_cache(prepared: Prepared, store: RunStore, listener: Listener) -> CheckpointCache:
    """Return the cache that fetches checkpoints from the hub and removes them again."""
    of_hub = [each for sequence in prepared.sequences for each in sequence.checkpoints if each.repo]
    keep = prepared.options.keep_checkpoints
    return CheckpointCache(
        run_name(store.path),
        sorted({each.repo for each in of_hub if each.repo}),
        # 0 if all fit within the limit: none has to be removed, and the next run on them fetches nothing.
        0 if len({(each.repo, each.commit) for each in of_hub}) <= keep else keep,
        offline=prepared.options.offline,
        on_fetch=lambda each: listener.note(f"fetching {each.label}, {sized(each.n_bytes)}"),
    )
