"""One stream written to a pipe: a cursor, a reader, and the writer that all of them share."""

from collections.abc import Callable
from typing import Final

from mcp_types.jsonrpc import INTERNAL_ERROR

from headway.protocol import render
from headway.transport.stdio.pipe_writer import PipeWriter
from headway.transport.stream_pages import End, StreamSource, read_next_page

CHUNK: Final = 65536
"""Bytes rendered before they are handed to the writer: what one reader holds in memory."""

_LOST: Final = "The journal cannot be read at the moment; send the request again in a few seconds"


class PipeResponse:
    """Writes a stream to one client. `stop` and `conclude_with` end it early.

    A reader without a method reads the session's own stream, which answers nothing.
    """

    def __init__(
        self,
        writer: PipeWriter,
        cursor: StreamSource,
        reader: render.Reader,
        *,
        opened: float = 0.0,
    ) -> None:
        self._writer = writer
        self._cursor = cursor
        self._reader = reader
        self._lines: list[bytes] = []
        self._size = 0
        self._handle: bytes | None = None
        self.end: End | None = None
        self.opened = opened
        """The moment in which its request came, as the server's clock has it."""

    def stop(self, end: End) -> None:
        """Write nothing from now on."""
        if self.end is None:
            self.end = end
            self._cursor.nudge()

    def conclude_with(self, message: bytes) -> None:
        """End with this JSON-RPC message instead of the run's own end."""
        if self.end is None and not self._cursor.done:
            self._handle = message
            self.end = End.HANDED_OVER
            self._cursor.nudge()

    def act_at_expiry(self, act: Callable[[], object]) -> None:
        """Do nothing: there are no tokens here."""

    def expire(self) -> None:
        """Do nothing: there are no tokens here."""

    async def write_all(self) -> None:
        """Write the stream to its end; the next entries are read when the last have room."""
        while self.end is None and not self._cursor.done:
            page = await read_next_page(self._cursor)
            if page.missed:
                self._add_line(render.lost_stream_error(page.missed, self._reader))
            for entry in page.entries:
                if self.end is not None:
                    break
                self._add_line(render.render_event(entry.event, self._reader))
                if self._size > CHUNK:
                    await self._flush_lines()
            if page.end is not None and self._reader.method:
                self._add_line(render.error_bytes(self._reader.id, INTERNAL_ERROR, _LOST))
            if page.has_lost_its_end and self._reader.method:
                self._add_line(render.result_gone(self._reader))
            await self._flush_lines()
            self.end = self.end or page.end
        if self._handle is not None:
            self._add_line(self._handle)
            await self._flush_lines()
        self.end = self.end or End.DONE

    def _add_line(self, line: bytes | None) -> None:
        if line is not None:
            self._lines.append(line)
            self._size += len(line)

    async def _flush_lines(self) -> None:
        if not self._lines:
            return
        await self._writer.wait_for_room()
        if self.end is not End.CLOSED:
            self._writer.put(b"\n".join(self._lines))
        self._lines.clear()
        self._size = 0
