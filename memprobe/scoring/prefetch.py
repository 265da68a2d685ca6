"""The next checkpoint while this one is scored: its files fetched, its weights read."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from threading import Thread

from torch import Tensor

from memprobe.checkpoints import Checkpoint, CheckpointCache
from memprobe.scoring.load import read_weights


@dataclass(frozen=True, slots=True)
class PrefetchedCheckpoint:
    """A checkpoint that was asked for.

    Attributes:
        checkpoint: With its files on this machine; None where there is no room for them now.
        weights: Its tensors in memory; None where they were not asked for or cannot be read plainly.
    """

    checkpoint: Checkpoint | None
    weights: dict[str, Tensor] | None = None


@dataclass(slots=True)
class Prefetcher:
    """Loads checkpoints ahead, by the context of their job.

    Attributes:
        cache: Brings the files.
    """

    cache: CheckpointCache
    coming: dict[str, tuple[Checkpoint, "Future[PrefetchedCheckpoint]"]] = field(default_factory=dict)

    def start(self, context: str, checkpoint: Checkpoint, *, read: bool) -> None:
        """Ask for a checkpoint, and for its weights too where `read`; returns at once."""
        if context not in self.coming:
            self.coming[context] = checkpoint, _in_background(lambda: self._arrival(checkpoint, read=read))

    def take(self, context: str, checkpoint: Checkpoint) -> PrefetchedCheckpoint:
        """Wait for a checkpoint, asked for before or not.

        Raises:
            CheckpointError: It could not be fetched.
            SafetyError: The network would be needed and is not allowed.
        """
        _, asked = self.coming.pop(context, (checkpoint, None))
        arrival = asked.result() if asked else PrefetchedCheckpoint(None)
        if arrival.checkpoint is None:
            # In the background too: a signal must not wait for a download.
            arrival = _in_background(lambda: self._arrival(checkpoint, read=False)).result()
        return arrival

    def keep_only(self, context: str | None) -> None:
        """Forget what was asked for other jobs, such as those that another process took over."""
        for other in [each for each in self.coming if each != context]:
            checkpoint, asked = self.coming.pop(other)
            asked.add_done_callback(partial(self._put_back, checkpoint))

    def _put_back(self, checkpoint: Checkpoint, _: "Future[PrefetchedCheckpoint]") -> None:
        self.cache.leave(checkpoint, done=False)

    def _arrival(self, checkpoint: Checkpoint, *, read: bool) -> PrefetchedCheckpoint:
        brought = self.cache.bring(checkpoint)
        return PrefetchedCheckpoint(brought, read_weights(brought) if brought and read else None)


def _in_background(work: Callable[[], PrefetchedCheckpoint]) -> "Future[PrefetchedCheckpoint]":
    """Run in a thread that the end of the process does not wait for."""
    future: Future[PrefetchedCheckpoint] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=run, daemon=True).start()
    return future


def fits_in_memory(checkpoint: Checkpoint) -> bool:
    """Whether the weights fit twice into the memory that is free; unknown counts as yes."""
    available = [int(line.split()[1]) * 1024 for line in _meminfo() if line.startswith("MemAvailable:")]
    return not available or 2 * checkpoint.n_bytes < available[0]


def _meminfo() -> Iterator[str]:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            yield from lines
    except OSError:
        return
