"""Ctrl+C while a call runs: a person is asked whether it goes on without them."""

import asyncio
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from headway.cli.display.call_display import Display
from headway.cli.display.terminal_questions import read_line
from headway.cli.exit_codes import Cancelled, Left, Terminated

if TYPE_CHECKING:
    from headway.cli.client.tool_call import ToolCall

_QUESTION: Final = "Leave the call running, or cancel it? [l/C] "


class InterruptHandler:
    """Takes SIGINT and SIGTERM for one call.

    The first Ctrl+C on a terminal asks, where the call can be come back to; the next one, and the
    first one elsewhere, cancels it.
    """

    def __init__(self, screen: Display, terminal: asyncio.Lock) -> None:
        """`terminal` is held by who reads from it: two would take each other's lines."""
        self._screen = screen
        self._terminal = terminal
        self._asking: asyncio.Task[None] | None = None
        self._end: type[Cancelled] | None = None

    @contextmanager
    def watching(
        self, work: "asyncio.Task[Any]", call: "ToolCall", way_back: Callable[[], str]
    ) -> Generator[None]:
        """Take the signals while `work` makes `call`; `way_back` is a command, or empty.

        Raises:
            Cancelled: Somebody cancelled the call, or left it.
        """
        self._work, self._call, self._way_back = work, call, way_back
        with _signals({signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate}):
            try:
                yield
            except asyncio.CancelledError:
                if self._end is None:
                    raise
                raise self._end(self._in_words()) from None
            finally:
                self._stop_asking()

    def _interrupt(self) -> None:
        if self._end is None and self._asking is None and self._may_ask():
            self._asking = asyncio.create_task(self._ask())
        else:
            self._stop(Cancelled)

    def _terminate(self) -> None:
        self._stop(Terminated)

    def _may_ask(self) -> bool:
        has_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        return bool(self._way_back()) and has_terminal and not self._terminal.locked()

    async def _ask(self) -> None:
        # Never given back: once a person was asked this, the tool asks them nothing any more.
        await self._terminal.acquire()
        with self._screen.aside():
            try:
                # Abandoned when it is over: a thread that reads a terminal cannot be interrupted.
                answer = await anyio.to_thread.run_sync(
                    read_line, _QUESTION, abandon_on_cancel=True
                )
            except EOFError:
                answer = ""
        self._asking = None
        self._call.is_left = answer.lower() in ("l", "leave")
        self._stop(Left if self._call.is_left else Cancelled)

    def _stop(self, end: type[Cancelled]) -> None:
        self._stop_asking()
        # Who says it again does not wait until the server has heard it.
        self._call.is_left = self._call.is_left or self._end is not None
        self._end = self._end or end
        self._work.cancel()

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _in_words(self) -> str:
        way = self._way_back()
        if self._end is Left:
            return f"the call goes on; come back with: {way}"
        if self._call.is_cancelled or not way:
            return "cancelled"
        return f"cancelled here; the server did not confirm it, and the call may go on: {way}"


@contextmanager
def _signals(handlers: dict[int, Callable[[], None]]) -> Generator[None]:
    """Handlers of signals in the running loop; only the main thread hears any."""
    loop = asyncio.get_running_loop()
    taken: list[int] = []
    with suppress(NotImplementedError, ValueError, RuntimeError):
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
