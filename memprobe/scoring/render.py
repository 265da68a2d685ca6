"""Chat templates filled within limits of time, length and memory; they are programs of other people."""

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memprobe.errors import CheckpointError
from memprobe.scoring import render_child

SECONDS: Final = 10.0
MOST_CHARS: Final = 10_000_000
MOST_BYTES: Final = 4 * 2**30
# Starting means importing transformers, on a busy machine.
_SECONDS_TO_START: Final = 120.0
_OTHER: Final = "leave chat out, or name a tokenizer with another template with --tokenizer"

Conversation = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A filled template.

    Attributes:
        text: What it writes.
        has_date: It asked for the date of the day, and was given a fixed one.
    """

    text: str
    has_date: bool


class TemplateFailedError(CheckpointError):
    """A template raised, or went beyond a limit."""


class Renderer:
    """One process that fills templates; it is started when it is needed, and again after it ended."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def render(
        self,
        template: str,
        conversation: Conversation,
        variables: Mapping[str, Any],
        *,
        seed: int = 0,
        generation_prompt: bool = True,
    ) -> Rendered:
        """Fill a template.

        Args:
            template: The template.
            conversation: Its messages.
            variables: What else it may name, such as `bos_token`.
            seed: Of what it draws at random.
            generation_prompt: Write also what begins the answer.

        Raises:
            TemplateFailedError: It raises, takes too long or writes too much.
        """
        asked = {
            "template": template,
            "conversation": list(conversation),
            "variables": dict(variables),
            "seed": seed,
            "generation_prompt": generation_prompt,
        }
        with self._lock:
            answer = self._exchange(json.dumps(asked))
        if "error" in answer:
            what = str(answer["error"]).splitlines()[0]
            raise TemplateFailedError(
                f"the chat template cannot be filled: {what}", fix=f"leave system out, or {_OTHER}"
            )
        return Rendered(answer["text"], answer["has_date"])

    def close(self) -> None:
        """End the process, if there is one of ours."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _exchange(self, line: str) -> dict[str, Any]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._start()
        answer = self._ask(line, self.seconds)
        if answer is None:
            self.close()
            return {"error": f"it does not end within {self.seconds:g} s, or takes too much memory"}
        return answer

    def _start(self) -> None:
        self.close()
        numbers = (self.seconds + 5, MOST_CHARS, MOST_BYTES)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(render_child.__file__)), *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )
        self._owner = os.getpid()
        if self._ask("", _SECONDS_TO_START) is None:
            self.close()
            raise TemplateFailedError(
                "chat templates are filled in a process of their own, and it could not be started",
                where=sys.executable,
                fix="check that jinja2 3.1.6 or later is installed: pip install --upgrade jinja2",
            )

    def _ask(self, line: str, seconds: float) -> dict[str, Any] | None:
        """Send a line, if it is one, and return the answer; None where the process ended without one."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            if line:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        return json.loads(answer) if answer.endswith("\n") else None


RENDERER: Final = Renderer()
atexit.register(RENDERER.close)
