"""How a command ends: every exception's exit code, and one sentence on stderr.

| code | meaning |
|---|---|
| 0 | ok |
| 1 | the tool answered with an error, or did not finish |
| 2 | usage: bad arguments, an unknown tool, arguments that the tool's schema refuses |
| 3 | cannot start: a busy port, a missing target, a bad or corrupt journal |
| 4 | cannot reach the server |
| 130 | cancelled with Ctrl+C |
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import cast

from typer import Abort, TyperException

from headway.cli.display.printable import plain
from headway.cli.log_output.tracebacks import ELSEWHERE
from headway.errors import (
    CodeEnded,
    HeadwayError,
    JournalError,
    ProtocolError,
    SetupError,
    ToolTimeout,
)

INTERRUPTED = 128 + signal.SIGINT


class ToolFailed(HeadwayError):
    """The call ended without a result to use."""


class Refused(HeadwayError):
    """The command cannot be carried out: no such tool, or arguments that it does not take."""


class Unreachable(HeadwayError):
    """No MCP server answers where it should."""


class Cancelled(HeadwayError):
    """The person at the keyboard had enough."""


class Broken(SetupError):
    """Somebody else's code raised while it was being loaded or started; `__cause__` says what.

    The only error that is shown with a traceback: its reader wrote that code.
    """


CODES: dict[type[BaseException], int] = {
    ToolFailed: 1,
    ToolTimeout: 1,
    ProtocolError: 1,
    Refused: 2,
    SetupError: 3,
    JournalError: 3,
    Unreachable: 4,
    Cancelled: INTERRUPTED,
    KeyboardInterrupt: INTERRUPTED,
    Abort: INTERRUPTED,
    HeadwayError: 1,
}


def code_of(error: BaseException) -> int:
    """Return the exit code for `error`: that of its class, or of the nearest base that has one."""
    return next((CODES[base] for base in type(error).__mro__ if base in CODES), 1)


def root_of(error: BaseException) -> BaseException:
    """Return the exception itself where `error` is only groups of one around it."""
    inner = _group_members(error)
    return root_of(inner[0]) if len(inner) == 1 else error


def _group_members(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions
    return ()


def start_failure(error: BaseException) -> SetupError:
    """Return the `SetupError` for an exception that the server's own startup code raised."""
    if isinstance(error, SetupError):
        return error
    if isinstance(error, HeadwayError):
        return SetupError(str(error))
    if isinstance(error, CodeEnded):
        failure = Broken(f"the server's own startup code {error}")
        failure.__cause__ = error.__cause__
        return failure
    failure = Broken(f"the server's own startup code raised {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def report_line(sentence: str) -> None:
    """Say `sentence` on stderr as the program, if anybody still listens there."""
    # A closed pipe must not keep a server from stopping; without a stderr nobody is told.
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"headway: {plain(sentence)}\n")
        sys.stderr.flush()


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """`trace` from the first frame of the reader's own code; all of it where there is none."""
    frame = trace
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ELSEWHERE):
        frame = frame.tb_next
    return frame or trace


def _explain_error(error: BaseException) -> None:
    if isinstance(error, Broken) and error.__cause__ is not None:
        cause = error.__cause__
        frames = _own_frames(cause.__traceback__)
        traceback.print_exception(type(cause), cause, frames, chain=cause.__cause__ is not None)
    if isinstance(error, TyperException):
        report_line(error.format_message())
    elif isinstance(error, HeadwayError):
        report_line(str(error))
    else:
        report_line("cancelled")


def run_command(command: Callable[[], object]) -> int:
    """Return the exit code of `command`, which may return one or raise what has one."""
    try:
        code = command()
    except TyperException as error:
        if text := error.format_message():
            # Typer's own "no command given" shows the help and has nothing more to say.
            report_line(text)
        return error.exit_code
    except BrokenPipeError:
        return _lost_reader()
    except (HeadwayError, KeyboardInterrupt, Abort) as error:
        _explain_error(error)
        return code_of(error)
    return code if isinstance(code, int) else 0


def _lost_reader() -> int:
    """Whoever read stdout is gone (`| head`): what they wanted, they have."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
