"""How a command ends: every exception's exit code, and one sentence on stderr.

| code | meaning |
|---|---|
| 0 | ok |
| 1 | the tool answered with an error or did not finish, or a file of `headway call` is not whole |
| 2 | usage: bad arguments, an unknown tool, arguments that the tool's schema refuses |
| 3 | cannot start: a busy port, a missing target, a bad or corrupt journal |
| 4 | no answer of the server: it is not there, is busy, refuses the caller, or was lost |
| 130 | cancelled with Ctrl+C, or left with it while the call goes on |
| 143 | cancelled with SIGTERM |
"""

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, cast

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
    """The call ended without a usable result."""


class Refused(HeadwayError):
    """The command cannot be carried out: no such tool, or arguments that it does not take."""


class Unreachable(HeadwayError):
    """No MCP server answers where it should."""


class Busy(Unreachable):
    """The server is there and takes no more calls at the moment."""


class Lost(Unreachable):
    """The connection was lost, and what was going on cannot be told."""


class SessionGone(Lost):
    """The server does not know the session any more."""


class Cancelled(HeadwayError):
    """The person at the keyboard cancelled the command."""


class Left(Cancelled):
    """The person at the keyboard had enough, and the call goes on."""


class Terminated(Cancelled):
    """Another program had enough: SIGTERM."""


class Broken(SetupError):
    """Code that is not ours raised while it was loaded or started; `__cause__` is the exception.

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
    Terminated: 128 + signal.SIGTERM,
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
    """Write `sentence` to stderr, with the program's name, if stderr can still be written."""
    # A closed pipe must not keep a server from stopping, nor a missing stderr.
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"headway: {plain(sentence)}\n")
        sys.stderr.flush()


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return `trace` from the first frame of the reader's own code, or all of it.

    A file that is no Python has none: the error itself says where it is.
    """
    frame = trace
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ELSEWHERE):
        frame = frame.tb_next
    return frame or trace


def _explain_error(error: BaseException) -> None:
    if isinstance(error, Broken) and error.__cause__ is not None:
        cause = error.__cause__
        frames = _own_frames(cause.__traceback__)
        if isinstance(cause, SyntaxError) and frames is cause.__traceback__:
            frames = None
        traceback.print_exception(type(cause), cause, frames, chain=cause.__cause__ is not None)
    if isinstance(error, TyperException):
        report_line(usage_text(error))
    elif isinstance(error, HeadwayError):
        report_line(str(error))
    else:
        report_line("cancelled")


_GIVEN: Final = re.compile(r"'(-[^']*)' \(env var: '([A-Z_]+)'\)")
"""An option as typer names it where it has a variable, wherever the value came from."""


def usage_text(error: TyperException) -> str:
    """Return the sentence of a usage error; it names the option or the variable that was given."""
    text = error.format_message()
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None:
        return text
    source = context.get_parameter_source(parameter.name)
    is_variable = getattr(source, "name", "") == "ENVIRONMENT"
    return _GIVEN.sub(lambda found: found[2] if is_variable else f"'{found[1]}'", text)


def run_command(command: Callable[[], object]) -> int:
    """Return the exit code of `command`, which may return one or raise what has one."""
    try:
        code = command()
    except TyperException as error:
        if text := usage_text(error):
            # Typer has shown the help for "no command given" already.
            report_line(text)
        return error.exit_code
    except BrokenPipeError:
        return _lost_reader()
    except (HeadwayError, KeyboardInterrupt, Abort) as error:
        _explain_error(error)
        return code_of(error)
    return code if isinstance(code, int) else 0


def _lost_reader() -> int:
    """End quietly when the reader of stdout is gone (`| head`): it has all that it wanted."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
