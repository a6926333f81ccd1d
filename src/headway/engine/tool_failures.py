"""The judgement of exceptions from an author's code: whose failure they are, and what they become.

An author's code is tools, resources, prompts, completions, handlers, middleware, lifespans and
hooks. One table decides what its exceptions become; everything that calls such code uses it.

| exception | kind | the result of a tool call | other methods |
|---|---|---|---|
| anything, after a stop was requested | STOPPED | that cancel, timeout or stop | the same |
| an `MCPError`, wrong parameters | REFUSED | that protocol error | the same |
| any other `Exception` | CRASHED | what the SDK makes of it | -32603 |
| `SystemExit` and other bases | ENDED | a tool error | -32603 |
| a cancel that nothing requested | ENDED | a tool error | -32603 |
| a person's Ctrl+C, the end of the loop | PASSING | an interruption | the same |

An exception group has the gravest kind of its members. Cancels in it count only if there is nothing
else: another member has caused them.

The process survives all kinds but the last. That one is nobody's failure, so it is raised further.
The log gets the traceback, and the text of an exit, such as the message of `argparse`. The client
gets the name of the exception and the number of an exit, and no text.
"""

import argparse
import asyncio
import dis
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
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

T = TypeVar("T")

MOST_LEAVES: Final = 1000
"""Members of a group that are judged; further ones are ignored."""

MOST_NAMED: Final = 5
"""Members of a group that are named to the client."""

MOST_SAID: Final = 500
"""Characters of an exit's text in the log."""


class Kind(Enum):
    """The kind of an exception of an author's code; see the table above. The gravest is first."""

    PASSING = auto()
    STOPPED = auto()
    ENDED = auto()
    CRASHED = auto()
    REFUSED = auto()


_KINDS: Final[tuple[tuple[tuple[type[BaseException], ...], Kind], ...]] = (
    ((MCPError, ValidationError), Kind.REFUSED),
    ((Exception,), Kind.CRASHED),
)
"""The first row that fits decides, if no stop was requested; all else is `ENDED`."""

_CANCELS: Final = (asyncio.CancelledError, RunCancelled, GeneratorExit)
"""In a group these are effects of another member, if there is any other."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The judgement of an exception."""

    kind: Kind
    words: str
    """The predicate of a sentence about the code: `ended with SystemExit(2)`."""
    said: str = ""
    """The text of an exit, for the log: in one line."""
    refusal: ErrorData | None = None
    """The protocol error; for `REFUSED` only."""


def judge_failure(error: BaseException, *, asked: bool, ending: bool = False) -> Failure:
    """Return the kind of an exception of an author's code, and the words for it.

    Args:
        error: The exception.
        asked: Whether the code was asked to stop.
        ending: Whether the event loop is about to end.
    """
    found = leaf_errors(error)
    kinds = {_kind_of(leaf, asked=asked, ending=ending) for leaf in found}
    kind = min(kinds, key=lambda kind: kind.value)
    refusal = handler_exception_to_error_data(found[0]) if kind is Kind.REFUSED else None
    return Failure(kind, _failure_words(error, found), _exit_texts(found), refusal)


def leaf_errors(error: BaseException) -> list[BaseException]:
    """Return the members of a group and of the groups in it; any other exception alone.

    Cancels among them are left out if there is anything else, which has caused them.
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
    """Return the predicate of a sentence about code that raised this, as `judge_failure` does."""
    return _failure_words(error, leaf_errors(error))


def _kind_of(error: BaseException, *, asked: bool, ending: bool) -> Kind:
    if _is_from_keyboard(error) or _is_of_the_loop(error, ending=ending):
        return Kind.PASSING
    if asked:
        return Kind.STOPPED
    return next((kind for bases, kind in _KINDS if isinstance(error, bases)), Kind.ENDED)


def _is_of_the_loop(error: BaseException, *, ending: bool) -> bool:
    """Return whether an exception was thrown into the code because its loop or task is over."""
    if isinstance(error, GeneratorExit):
        # No task executes a coroutine that is being closed.
        return _current_task() is None
    return ending and isinstance(error, asyncio.CancelledError)


def _is_from_keyboard(error: BaseException) -> bool:
    """Return whether a person pressed Ctrl+C in a process without a signal handler, as in a test.

    Python raises it in the main thread, between any two instructions. One that comes from a `raise`
    statement or from another thread is the author's. A server has a signal handler of its own.
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
    """Return the texts of exits, in one line."""
    said = (_exit_text(leaf) for leaf in found if isinstance(leaf, SystemExit))
    line = " ".join("; ".join(filter(None, said)).split())
    return "".join(sign for sign in line if sign.isprintable())[:MOST_SAID]


def _exit_text(error: SystemExit) -> str:
    code = _exit_code(error)
    if isinstance(code, str):
        return code
    # argparse writes its message to stderr, where nothing tells which call it belongs to.
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


# Calling an author's code outside of a run


@contextmanager
def contain_failures(who: str) -> Generator[None]:
    """Log exceptions of an author's code inside, and go on after it.

    `who` is the subject of the log's sentence. Only a cancel of the current task and the end of its
    loop are raised further: they are nobody's failure.
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
    """Log an exception of an author's code, with its traceback if that can be formatted."""
    said = f": {failure.said}" if failure.said else ""
    try:
        logger.logger.error("%s %s%s", who, failure.words, said, exc_info=error)
    except Exception as trouble:  # noqa: BLE001 - such as a group in groups, too deep for Python
        text = "%s %s%s; its traceback cannot be shown: %s"
        logger.error(text, who, failure.words, said, type(trouble).__name__)


@asynccontextmanager
async def lifespan_of(lifespan: AbstractAsyncContextManager[T]) -> AsyncGenerator[T]:
    """Enter an author's lifespan; turn what would end the process or the task into an exception.

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
    """Return an exception that a task can raise, instead of one that would end the process."""
    task = _current_task()
    asked = task is not None and task.cancelling() > 0 and _is_cancel(error)
    failure = judge_failure(error, asked=asked)
    return CodeEnded(failure.words + _said_suffix(failure)) if failure.kind is Kind.ENDED else error


def _said_suffix(failure: Failure) -> str:
    return f" ({failure.said})" if failure.said else ""


def _is_cancel(error: BaseException) -> bool:
    return isinstance(leaf_errors(error)[0], asyncio.CancelledError)
