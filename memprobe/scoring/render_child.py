"""Fills chat templates in a process of its own, so that one without end can be ended: run as a script.

One JSON object per line: reads `{template, conversation, variables, seed, generation_prompt}`, answers
`{text, has_date}` or `{error}`. Dates are those of one fixed day. It imports no other part of memprobe.
"""

import json
import random
import signal
import sys
from datetime import datetime
from typing import Any

# The day that Llama's own templates fall back to.
DAY = datetime(2024, 7, 26)
_used: list[bool] = []


class _Fixed(datetime):
    """The clock that a template sees."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # noqa: ANN401, ARG003
        _used.append(True)
        return DAY


def main(seconds: float, most_chars: int, most_bytes: int) -> None:
    """Answer until there is nothing more to read.

    Args:
        seconds: For one template; then the process ends itself, should its parent be gone.
        most_chars: Longer texts are refused.
        most_bytes: Memory that the process may use.
    """
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = _Fixed
    _limit_memory(most_bytes)
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201
    for line in sys.stdin:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)
        answer = _answer(json.loads(line), most_chars)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(answer), flush=True)  # noqa: T201


def _limit_memory(most_bytes: int) -> None:
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, hard))
    except (ImportError, ValueError, OSError):
        return


def _answer(asked: dict[str, Any], most_chars: int) -> dict[str, Any]:
    from transformers.utils.chat_template_utils import render_jinja_template

    _used.clear()
    random.seed(asked["seed"])
    try:
        rendered: Any = render_jinja_template(
            conversations=[asked["conversation"]],
            chat_template=asked["template"],
            add_generation_prompt=asked["generation_prompt"],
            **asked["variables"],
        )
        text = str(rendered[0][0])
    # A template may raise whatever it likes; the user gets it as a message.
    except Exception as error:
        return {"error": str(error).strip() or type(error).__name__}
    if len(text) > most_chars:
        return {"error": f"it writes {len(text):,} characters, and {most_chars:,} are the most"}
    return {"text": text, "has_date": bool(_used)}


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
