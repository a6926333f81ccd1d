"""An answer that is the end of its run and nothing else, where that comes soon.

Most calls end at once or in a few milliseconds, and say nothing before. Then no stream is opened
for the answer, nobody looks at the connection, no timer is started but one, and no hand-over is
offered. In all other cases another answer reads on with the same cursor.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Send

from headway.errors import JournalError
from headway.events import Accepted, Entry, Event, Started
from headway.journal import Cursor
from headway.protocol.render import Reader, render_event
from headway.transport.http.json_or_sse import AS_JSON, always_ok
from headway.transport.http.reply import Headers, send_json
from headway.transport.stream_pages import End

SOON: Final = 0.02
"""Seconds until the answer to a request becomes one that lasts: most are sent before."""

_SILENT: Final = (Accepted, Started)
"""The events of nearly all runs that no client is told."""


class QuickAnswer:
    """Looks for the end of one run, and sends it."""

    __slots__ = ("_cursor", "_headers", "_reader", "_send", "_status", "end", "is_overtaken")

    def __init__(
        self,
        cursor: Cursor,
        reader: Reader,
        send: Send,
        headers: Headers = (),
        status: Callable[[Event], int] = always_ok,
    ) -> None:
        """Read with a cursor that is before the run's first entry.

        It is opened by the caller, before the run begins: a full journal may drop what has ended.
        `status` returns the HTTP status of an answer that is nothing but this event.
        """
        self._cursor = cursor
        self._reader = reader
        self._send = send
        self._headers = headers
        self._status = status
        self.end: End | None = None
        """Why the answer that follows is to end at once, if it is to."""
        self.is_overtaken = False
        """Whether the stream has a newer reader, which is sent what comes."""

    def stop(self, end: End) -> None:
        """Look no more; the answer that follows is to end with this."""
        self.end = self.end or end
        self._cursor.nudge()

    def give_way(self) -> None:
        """Look no more: the stream has a newer reader."""
        self.is_overtaken = True
        self._cursor.nudge()

    def find_end(self) -> Event | None:
        """Return the end of the run, if it is there and is all there is to say.

        The cursor is moved to the first entry that may have to be sent.
        """
        last = self._cursor.skip_entries(self._is_unwanted)
        return None if last is None or type(last.event) not in AS_JSON else last.event

    @property
    def may_come_soon(self) -> bool:
        """True when there was nothing yet that its reader is to have."""
        return self._cursor.is_at_head

    async def wait_for_end(self, seconds: float) -> Event | None:
        """Return the end of the run, as `find_end`; None when it does not come in that time.

        Cancellation: loses nothing.
        """
        timer = asyncio.get_running_loop().call_later(seconds, self._cursor.nudge)
        try:
            while await self._cursor.wait_for_more():
                end = self.find_end()
                if end is not None or not self.may_come_soon:
                    return end
        except JournalError:
            pass  # whoever reads on with the cursor finds out
        finally:
            timer.cancel()
        return None

    async def send_end(self, end: Event) -> None:
        """Answer with the end of the run."""
        body = render_event(end, self._reader)
        assert body is not None  # the end of a run is for whoever asked
        await send_json(self._send, self._status(end), body, self._headers)

    def _is_unwanted(self, entry: Entry) -> bool:
        is_silent = type(entry.event) in _SILENT
        return is_silent or render_event(entry.event, self._reader) is None
