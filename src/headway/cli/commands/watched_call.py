"""A call that a person watches: what `headway call` and `headway attach` have in common."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from headway.cli.exit_codes import Cancelled, Refused, ToolFailed, Unreachable
from headway.cli.options import DURATION, duration, duration_or_zero
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from headway.cli.client.tool_call import CallRequest, ToolCall
    from headway.cli.display.call_display import Display
    from headway.cli.display.ctrl_c_question import InterruptHandler
    from headway.cli.display.line_file import CallFiles

T = TypeVar("T")

RETRY_FOR = 300.0
"""Seconds for which a server may be busy or away: a deploy takes less."""

Timeout = Annotated[
    float | None,
    typer.Option(
        parser=duration,
        metavar=DURATION,
        help="Cancel the run when it takes longer: 45s, 30m, 2h. Default: wait.",
    ),
]
RetryFor = Annotated[
    float,
    typer.Option(
        parser=duration_or_zero,
        metavar=DURATION,
        help="Try again for so long when the server is busy or away. Default: 5m.",
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show nothing but the result, or why there is none.")
]
Parts = Annotated[
    str | None,
    typer.Option(
        metavar="all|none|FILE",
        help="Where partial results go: each of them on a line of stderr, nowhere, or into FILE, "
        "a line of JSON each.",
    ),
]
TraceTo = Annotated[
    str | None,
    typer.Option(
        "--trace",
        metavar="FILE|-",
        help="Write the protocol's messages to FILE, or stderr (-), a line of JSON each.",
    ),
]


@dataclass(frozen=True, slots=True)
class View:
    """The way a call is reached and shown."""

    place: str
    era: Literal["2025", "2026"] | None
    headers: Mapping[str, str]
    """All headers, the token's too."""
    given_headers: Sequence[str]
    """Those of the command line, as they stand there."""
    timeout: float | None
    retry_for: float
    quiet: bool
    parts: str | None
    files: "CallFiles"
    debug: bool = False
    asks_login: bool = False
    """A person may be asked to log in with a browser."""

    @property
    def is_known(self) -> bool:
        """Return whether the server is told who calls."""
        from headway.cli.client.browser_login import BrowserLogin
        from headway.cli.client.peer import is_url

        if any(name.lower() == "authorization" for name in self.headers):
            return True
        is_kept = is_url(self.place) and BrowserLogin(self.place, may_ask=False).is_kept
        return self.asks_login or is_kept


CANCEL_AGAIN = 10.0
"""Seconds until a call that was cancelled and goes on is cancelled once more."""


@asynccontextmanager
async def _ending_with(work: "asyncio.Task[Any]") -> AsyncGenerator[None]:
    """Cancel `work` when what is inside is cancelled, and return when it has ended.

    As often as it takes: a library that is cancelled in the wrong moment, as where its connection
    breaks, takes it for something else, and the call would be waited for without end.
    """
    try:
        yield
    except asyncio.CancelledError:
        while not work.done():
            work.cancel()
            await asyncio.wait([work], timeout=CANCEL_AGAIN)
        if not work.cancelled():
            work.exception()  # it is of no use any more
        raise


def run_watching(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end and return its result; Ctrl+C that nobody takes cancels it.

    Raises:
        Cancelled: It was cancelled so.
    """
    from headway.cli.server.event_loop import run_until_done

    try:
        return run_until_done(main, loop="asyncio")
    except KeyboardInterrupt as error:
        raise Cancelled("cancelled") from error


@asynccontextmanager
async def opened_call(
    view: View, title: str, *, wish: "CallRequest | None" = None, task_id: str = ""
) -> AsyncGenerator["WatchedCall"]:
    """A call that can be started, or watched to its end.

    Raises:
        Refused: The URL makes no sense.
        SetupError: The target cannot be loaded or started.
    """
    from headway.cli.client.message_taps import Trace
    from headway.cli.client.peer import ConnectOptions, opened_login, reach_server
    from headway.cli.client.retry_transport import RetryPolicy
    from headway.cli.client.tool_call import ToolCall
    from headway.cli.display.call_display import CallObserver, display
    from headway.cli.display.ctrl_c_question import InterruptHandler
    from headway.cli.display.terminal_questions import Questions

    parts, trace = view.files
    screen = display(
        title,
        quiet=view.quiet,
        shows_all=view.parts == "all",
        is_shared=any(file is not None and file.is_stderr for file in view.files),
    )
    terminal = asyncio.Lock()
    async with (
        reach_server(view.place, debug=view.debug) as way,
        opened_login(view.place, view.headers, asks=view.asks_login) as login,
    ):
        options = ConnectOptions(
            era=view.era,
            headers=view.headers,
            on_question=Questions(screen, terminal),
            retries=RetryPolicy(view.retry_for, screen.line),
            trace=None if trace is None else Trace(trace.write_line),
            login=login,
        )
        watching = CallObserver(screen, view.parts, None if parts is None else parts.write_line)
        call = ToolCall(way, options, watching, wish=wish, task_id=task_id)
        person = InterruptHandler(screen, terminal)
        with screen:
            yield WatchedCall(call, view, person, screen)


class WatchedCall:
    """A call, and the person who may leave or cancel it."""

    def __init__(
        self, call: "ToolCall", view: View, person: "InterruptHandler", screen: "Display"
    ) -> None:
        self._screen = screen
        self._call = call
        self._view = view
        self._person = person

    async def result(self, name: str) -> "CallToolResult":
        """Return the result of the call to the tool, or whatever it is, called `name`.

        Raises:
            Cancelled: The person cancelled it, or left.
            HeadwayError: It ended without a result; how to come back is said where that is
                possible.
        """
        limit = asyncio.timeout(self._view.timeout)
        work = asyncio.ensure_future(self._call.result())
        try:
            with self._person.watching(work, self._call, lambda: self._way_back):
                async with limit, _ending_with(work):
                    await asyncio.wait([work])
                result = work.result()
            if result.is_error:
                from headway.cli.display.progress_line import Ending

                self._screen.end(Ending.FAILED)
            return result
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ToolFailed(
                f"{name} did not finish within {self._view.timeout:g} s; {self._fate}"
            ) from error
        except Unreachable as error:
            raise self._with_way_back(error) from error

    async def start(self) -> str:
        """Start the call, and return the id to come back with.

        Raises:
            Refused: It cannot be left running.
        """
        from headway.cli.client.peer import is_url

        if not is_url(self._view.place):
            raise Refused("--detach needs the URL of a server that goes on: a TARGET ends with it")
        return await self._call.start()

    @property
    def _way_back(self) -> str:
        return way_back(self._call.task_id, self._view)

    @property
    def _fate(self) -> str:
        from headway.cli.client.peer import is_url

        if self._call.is_cancelled or not is_url(self._view.place):
            return "it was cancelled"
        if not self._call.is_sent:
            return "it was not begun"
        if not self._way_back:
            return "the server was told to cancel it"
        return f"the server did not confirm that it was cancelled; come back with: {self._way_back}"

    def _with_way_back(self, error: Unreachable) -> HeadwayError:
        from headway.cli.client.tool_call import Over

        if isinstance(error, Over) or not self._way_back:
            return error
        return type(error)(f"{error}. Come back with: {self._way_back}")


def way_back(task_id: str, view: View) -> str:
    """Return the command that comes back to a call; empty where there is none.

    It shows no secret: of a header it has the name, and of a URL neither user nor password.
    """
    from shlex import quote

    from headway.cli.client.http_client import shown_url
    from headway.cli.client.peer import is_url

    if not task_id or not is_url(view.place):
        return ""
    words = [] if view.era is None else ["--era", view.era]
    for header in view.given_headers:
        name = header.partition(":")[0]
        words += ["--header", header if header.startswith("@") else f"{name}: …"]
    words += [*(["--"] if task_id.startswith("-") else []), task_id, shown_url(view.place)]
    return " ".join(["headway", "attach", *map(quote, words)])
