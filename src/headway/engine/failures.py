"""Whose failure was it: what is made of everything that can come out of an author's code.

An author's code is tools, resources, prompts, completions, handlers, middleware, lifespans and
hooks. One table decides here what becomes of what it raises; all who call such code ask it.

| what comes out | kind | a tool's caller is told | other callers |
|---|---|---|---|
| anything, after somebody asked for a stop | STOPPED | that cancel, timeout or stop | the same |
| an `MCPError`, wrong parameters | REFUSED | that protocol error | the same |
| any other `Exception` | CRASHED | what the SDK makes of it | -32603 |
| `SystemExit` and other bases | ENDED | a tool error | -32603 |
| a cancel that nobody asked for | ENDED | a tool error | -32603 |
| a person's Ctrl+C, the end of the loop | PASSING | an interruption | the same |

A group is the gravest of its members. Cancels in it count only where there is nothing else.

The process lives on with all kinds but the last, which is nobody's failure and has to go on to
whoever called. The log has the traceback and what an exit said of itself, such as the message of
`argparse`; the caller learns the name of the exception and an exit's number, and no text.
"""

import argparse
import asyncio
import dis
import logging
import signal
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from types import CodeType, FrameType
from typing import Any, Final, TypeVar, cast

from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import ErrorData
from pydantic import ValidationError

from headway.errors import CodeEnded, RunCancelled

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_LEAVES: Final = 1000
"""Members of a group that are looked at; more are as these."""

MOST_NAMED: Final = 5
"""Members of a group that are named to the caller."""

MOST_SAID: Final = 500
"""Characters of what an exit said of itself, in the log."""


class Kind(Enum):
    """What an exception of an author's code is; see the table above. The gravest comes first."""

    PASSING = auto()
    STOPPED = auto()
    ENDED = auto()
    CRASHED = auto()
    REFUSED = auto()


_KINDS: Final[tuple[tuple[tuple[type[BaseException], ...], Kind], ...]] = (
    ((MCPError, ValidationError), Kind.REFUSED),
    ((Exception,), Kind.CRASHED),
)
"""The first row that fits decides, of what nobody asked for; all else is `ENDED`."""

_CANCELS: Final = (asyncio.CancelledError, RunCancelled, GeneratorExit)
"""In a group these follow from another member, where there is any other."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception, judged."""

    kind: Kind
    words: str
    """What the code did, behind a subject: `ended with SystemExit(2)`. Nothing of its texts."""
    said: str = ""
    """What an exit said of itself, for the log: in one line."""
    refusal: ErrorData | None = None
    """The protocol error, of `REFUSED`."""


def judge_failure(error: BaseException, *, asked: bool, ending: bool = False) -> Failure:
    """Return whose failure an exception of an author's code is, and what to say of it.

    Args:
        asked: Somebody asked the code to stop.
        ending: The event loop comes to its end.
    """
    found = leaf_errors(error)
    kinds = {_kind_of(leaf, asked=asked, ending=ending) for leaf in found}
    kind = min(kinds, key=lambda kind: kind.value)
    refusal = handler_exception_to_error_data(found[0]) if kind is Kind.REFUSED else None
    return Failure(kind, _failure_words(error, found), _exit_texts(found), refusal)


def leaf_errors(error: BaseException) -> list[BaseException]:
    """Return the members of a group and of the groups in it; of any other exception itself.

    Cancels among them are left out where there is anything else: they follow from it.
    """
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < MOST_LEAVES:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(cast("Sequence[BaseException]", one.exceptions))
        else:
            found.append(one)
    causes = [leaf for leaf in found if not isinstance(leaf, _CANCELS)]
    return causes or found[:1]


def describe_error(error: BaseException) -> str:
    """Return what code did that raised this, behind a subject: `ended with SystemExit(2)`."""
    return _failure_words(error, leaf_errors(error))


def _kind_of(error: BaseException, *, asked: bool, ending: bool) -> Kind:
    if _is_from_keyboard(error) or _is_of_the_loop(error, ending=ending):
        return Kind.PASSING
    if asked:
        return Kind.STOPPED
    return next((kind for bases, kind in _KINDS if isinstance(error, bases)), Kind.ENDED)


def _is_of_the_loop(error: BaseException, *, ending: bool) -> bool:
    """Whether an exception was thrown into the code because its loop or its task is over."""
    if isinstance(error, GeneratorExit):
        # A coroutine that is closed is not executed by a task any more.
        return _current_task() is None
    return ending and isinstance(error, asyncio.CancelledError)


def _is_from_keyboard(error: BaseException) -> bool:
    """Whether a person pressed Ctrl+C where nobody else takes the signal, as in a test.

    Python raises it in the main thread, between any two instructions. What a `raise` statement
    raised, or another thread, is the author's. A server takes the signal itself.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    is_in_main = threading.current_thread() is threading.main_thread()
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    is_authors = _crossed_threads(error) or _is_raised_by_statement(error)
    return is_in_main and is_default and not is_authors


_IN_THREADS: Final = ("WorkerThread.run", "_WorkItem.run")
"""Functions of anyio and of `concurrent.futures` that call others in a thread."""


def _crossed_threads(error: BaseException) -> bool:
    return any(frame.f_code.co_qualname in _IN_THREADS for frame in _frames_of(error))


def _is_raised_by_statement(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    instruction = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return dis.opname[instruction] in ("RAISE_VARARGS", "RERAISE")


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


# Words


def _failure_words(error: BaseException, found: Sequence[BaseException]) -> str:
    if not isinstance(error, BaseExceptionGroup):
        return _error_words(error)
    named = list(dict.fromkeys(_error_name(leaf) for leaf in found))
    more = len(named) - MOST_NAMED
    shown = ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"ended with {shown} in {'its tasks' if len(found) > 1 else 'one of its tasks'}"


def _error_words(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "ended with CancelledError, and nobody had asked for a cancel"
    return f"{'failed' if isinstance(error, Exception) else 'ended'} with {_error_name(error)}"


def _error_name(error: BaseException) -> str:
    name = type(error).__name__
    name = name[:100] if name.isidentifier() else "an exception"
    if not isinstance(error, SystemExit):
        return name
    code = _exit_code(error)
    if isinstance(code, int) and abs(code) < 2**63:
        return f"{name}({int(code)})"
    return f"{name}()" if code is None else name


def _exit_code(error: SystemExit) -> object:
    try:
        return error.code
    except Exception:  # noqa: BLE001 - a class of the author's, with a property in its place
        return ""


def _exit_texts(found: Sequence[BaseException]) -> str:
    """What exits said of themselves, in one line."""
    said = (_exit_text(leaf) for leaf in found if isinstance(leaf, SystemExit))
    line = " ".join("; ".join(filter(None, said)).split())
    return "".join(sign for sign in line if sign.isprintable())[:MOST_SAID]


def _exit_text(error: SystemExit) -> str:
    code = _exit_code(error)
    if isinstance(code, str):
        return code
    # argparse writes its message to stderr, where it belongs to nobody's call.
    for frame in _frames_of(error):
        name = _ARGPARSE.get(frame.f_code)
        if name is not None:
            return str(frame.f_locals.get(name) or "")
    return ""


_ARGPARSE: Final[dict[CodeType, str]] = {
    argparse.ArgumentParser.error.__code__: "message",
    argparse.ArgumentParser.exit.__code__: "message",
}


def _frames_of(error: BaseException) -> Generator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


# Calling an author's code where no run is


@contextmanager
def contain_failures(who: str) -> Generator[None]:
    """Log what code of an author raises inside, and go on behind it.

    `who` is the subject of the log's sentence. Only what is nobody's failure goes on to the
    caller: a cancel of the task that this is in, the end of its loop.
    """
    try:
        yield
    except BaseException as error:
        task = _current_task()
        asked = task is not None and task.cancelling() > 0 and _is_cancel(error)
        failure = judge_failure(error, asked=asked)
        if failure.kind in (Kind.PASSING, Kind.STOPPED):
            raise
        log_failure(failure, error, who)


def log_failure(failure: Failure, error: BaseException, who: str) -> None:
    """Write to the log what came out of an author's code, with its traceback where that can be."""
    said = f": {failure.said}" if failure.said else ""
    try:
        logger.error("%s %s%s", who, failure.words, said, exc_info=error)
    except Exception as trouble:  # noqa: BLE001 - such as a group in groups, too deep for Python
        text = "%s %s%s; its traceback cannot be shown: %s"
        logger.error(text, who, failure.words, said, type(trouble).__name__)


@asynccontextmanager
async def lifespan_of(lifespan: AbstractAsyncContextManager[T]) -> AsyncGenerator[T]:
    """Enter an author's lifespan; what would end the process or the task becomes an exception.

    Raises:
        CodeEnded: It ended with `SystemExit` or the like, or cancelled itself.
        Exception: It raised this.
    """
    inside: BaseException | None = None
    try:
        async with lifespan as state:
            try:
                yield state
            except BaseException as error:
                inside = error
                raise
    except BaseException as error:
        replaced = as_exception(error)
        if error is inside or replaced is error:
            raise
        raise replaced from error


def as_exception(error: BaseException) -> BaseException:
    """Return what can go through a task in the place of what an author's code raised."""
    task = _current_task()
    asked = task is not None and task.cancelling() > 0 and _is_cancel(error)
    failure = judge_failure(error, asked=asked)
    return CodeEnded(failure.words + _said_suffix(failure)) if failure.kind is Kind.ENDED else error


def _said_suffix(failure: Failure) -> str:
    return f" ({failure.said})" if failure.said else ""


def _is_cancel(error: BaseException) -> bool:
    return isinstance(leaf_errors(error)[0], asyncio.CancelledError)
