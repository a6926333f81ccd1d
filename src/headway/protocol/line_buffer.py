"""Newline-delimited messages: bytes as they come, cut into lines."""

from typing import Final

BOM: Final = b"\xef\xbb\xbf"
"""The mark that some programs write before text in UTF-8. Readers of JSON may ignore it (RFC 8259,
8.1)."""


class LineBuffer:
    """Cuts bytes into lines and keeps what is not a line yet, within a limit.

    A line longer than `longest` bytes is dropped as it comes; what follows it is not affected.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_dropping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the lines that are complete now, without outer blanks; None: one too long."""
        found: list[bytes | None] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._keep_piece(piece, found)
            self._end_line(found)
        self._keep_piece(rest, found)
        return found

    def finish(self) -> list[bytes | None]:
        """Return the last line, where the bytes end without a newline."""
        found: list[bytes | None] = []
        self._end_line(found)
        return found

    def _keep_piece(self, piece: bytes, found: list[bytes | None]) -> None:
        if self._is_dropping:
            return
        self._size += len(piece)
        if self._size > self._longest:
            self._is_dropping = True
            self._pieces.clear()
            found.append(None)
        elif piece:
            self._pieces.append(piece)

    def _end_line(self, found: list[bytes | None]) -> None:
        line = b"".join(self._pieces).removeprefix(BOM).strip()
        if line and not self._is_dropping:
            found.append(line)
        self._pieces.clear()
        self._size = 0
        self._is_dropping = False
