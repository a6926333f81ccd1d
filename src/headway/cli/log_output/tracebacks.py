"""Tracebacks for the author of a tool: his own frames, without those that carry the call."""

import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
"""An exception as `logging` hands it on."""

_HERE = str(Path(__file__).parents[2])
_PACKAGES = sysconfig.get_path("purelib")
CARRIERS = (
    _HERE,
    "<frozen",
    *(f"{_PACKAGES}/{name}/" for name in ("anyio", "fastmcp", "mcp", "starlette", "uvicorn")),
)
"""Directories of the code that carries a call; no mistake is in its frames."""

ELSEWHERE = (*CARRIERS, sysconfig.get_path("stdlib"), _PACKAGES)
"""Directories of code that no author of a tool has written."""

_DEEPEST = 20
"""Exceptions in a chain that are looked at."""


def folded_traceback(error: BaseException) -> str:
    """Return the traceback of `error` without the frames of the code that carries a call.

    The SDK's own exception around what a tool raised is left out with its frames. Where no frame
    is an author's, all are shown.
    """
    shown = _within_carriers(error)
    told = traceback.TracebackException.from_exception(shown, compact=True)
    left_out = _fold_lines(told, 0)
    text = "".join(told.format()).rstrip()
    if shown is error and not left_out:
        return text
    return f"{text}\n(frames of Headway and the SDK are left out)"


def _within_carriers(error: BaseException) -> BaseException:
    """Return the exceptions that `error` stands for: only carriers' exceptions are between them."""
    for _ in range(_DEEPEST):
        cause = error.__cause__
        frames = traceback.extract_tb(error.__traceback__)
        if cause is None or any(_is_own(frame) for frame in frames):
            break
        error = cause
    return error


def _fold_lines(told: traceback.TracebackException, depth: int) -> bool:
    """Remove carriers' frames from an exception and its causes; return whether there were any."""
    before = list(told.stack)
    own = [index for index, frame in enumerate(before) if _is_own(frame)]
    if own:
        kept = [each for each in before[own[0] :] if not each.filename.startswith(CARRIERS)]
        told.stack = traceback.StackSummary.from_list(kept)
    left_out = len(told.stack) < len(before)
    inner: Iterable[traceback.TracebackException | None] = (
        told.__cause__,
        None if told.__suppress_context__ else told.__context__,
        *(told.exceptions or ()),
    )
    for each in inner:
        if each is not None and depth < _DEEPEST:
            left_out = _fold_lines(each, depth + 1) or left_out
    return left_out


def _is_own(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith(ELSEWHERE)
