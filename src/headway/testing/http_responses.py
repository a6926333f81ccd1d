"""HTTP/1.1 answers as they pass by: where each begins and ends, and where its messages end."""

from enum import Enum
from typing import Literal, NamedTuple

LONGEST_HEAD = 65536
"""Bytes of a head that are waited for; what is longer is no HTTP."""

_OF_A_LINE = 16
"""Bytes of an SSE line that must be kept to know its field, and whether it is empty."""


class Mark(NamedTuple):
    """Something that is complete with the first `at` bytes of a piece."""

    kind: Literal["head", "message", "end"]
    at: int


class _In(Enum):
    HEAD = "head"
    SIZE = "chunk size"
    BODY = "body"
    BEHIND = "behind a chunk"
    TRAILER = "trailer"
    REST = "all up to the end of the connection"


class AnswerScanner:
    """Finds answers and messages in the bytes of one connection, fed in pieces of any size.

    A message is an SSE event with data: neither a comment nor the empty event that a stream may
    begin with. It is complete with the chunk that it ends. Bytes that are not HTTP/1.1 have no
    marks, and are no error.
    """

    def __init__(self) -> None:
        self._state = _In.HEAD
        self._line = b""
        self._field = b""
        self._left = 0
        self._is_chunked = False
        self._is_stream = False
        self._ends_with_message = False
        self._has_data = False

    def feed(self, data: bytes) -> list[Mark]:
        """Return the marks in the next piece, in order."""
        marks: list[Mark] = []
        at = 0
        while at < len(data):
            match self._state:
                case _In.HEAD:
                    at = self._scan_head(data, at, marks)
                case _In.BODY:
                    at = self._scan_body(data, at, marks)
                case _In.REST:
                    self._scan_events(data, at, len(data), marks)
                    at = len(data)
                case _:
                    at = self._chunk_line(data, at, marks)
        return marks

    def _scan_head(self, data: bytes, at: int, marks: list[Mark]) -> int:
        known = len(self._line)
        self._line += data[at:]
        end = self._line.find(b"\r\n\r\n")
        if end < 0:
            if len(self._line) > LONGEST_HEAD:
                self._state, self._line = _In.REST, b""
            return len(data)
        head, self._line = self._line[:end], b""
        at += end + 4 - known
        self._begin_body(head, at, marks)
        return at

    def _begin_body(self, head: bytes, at: int, marks: list[Mark]) -> None:
        first, *lines = head.split(b"\r\n")
        status = first.split(b" ")[1:2]
        fields = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        if status and status[0].startswith(b"1"):
            return  # "100 Continue": the answer is still to come
        marks.append(Mark("head", at))
        self._is_stream = fields.get(b"content-type", b"").startswith(b"text/event-stream")
        self._is_chunked = fields.get(b"transfer-encoding") == b"chunked"
        self._has_data, self._field = False, b""
        length = fields.get(b"content-length", b"")
        if status in ([b"204"], [b"304"]) or length == b"0":
            self._end_answer(at, marks)
        elif self._is_chunked:
            self._state = _In.SIZE
        elif length.isdigit():
            self._state, self._left = _In.BODY, int(length)
        else:
            self._state = _In.REST

    def _chunk_line(self, data: bytes, at: int, marks: list[Mark]) -> int:
        end = data.find(b"\n", at)
        if end < 0:
            self._line += data[at:]
            return len(data)
        line = (self._line + data[at:end]).strip()
        self._line = b""
        if self._state is _In.BEHIND:
            self._state = _In.SIZE
            if self._ends_with_message:
                marks.append(Mark("message", end + 1))
        elif self._state is _In.TRAILER:
            if not line:
                self._end_answer(end + 1, marks)
        else:
            try:
                self._left = int(line.partition(b";")[0], 16)
            except ValueError:
                self._state = _In.REST
            else:
                self._state = _In.BODY if self._left else _In.TRAILER
        return end + 1

    def _scan_body(self, data: bytes, at: int, marks: list[Mark]) -> int:
        end = min(len(data), at + self._left)
        self._left -= end - at
        self._scan_events(data, at, end, marks)
        if not self._left:
            if self._is_chunked:
                self._state = _In.BEHIND
                # Clients may take a chunk only when all of it is there.
                self._ends_with_message = marks[-1:] == [Mark("message", end)]
                if self._ends_with_message:
                    marks.pop()
            else:
                self._end_answer(end, marks)
        return end

    def _end_answer(self, at: int, marks: list[Mark]) -> None:
        marks.append(Mark("end", at))
        self._state, self._line = _In.HEAD, b""

    def _scan_events(self, data: bytes, at: int, end: int, marks: list[Mark]) -> None:
        while self._is_stream and at < end:
            stop = data.find(b"\n", at, end)
            if stop < 0:
                self._field = (self._field + data[at : min(end, at + _OF_A_LINE)])[:_OF_A_LINE]
                return
            field = (self._field + data[at : min(stop, at + _OF_A_LINE)]).rstrip(b"\r")
            self._field = b""
            at = stop + 1
            if not field:
                if self._has_data:
                    marks.append(Mark("message", at))
                self._has_data = False
            elif field.startswith(b"data:") and field[5:].strip():
                self._has_data = True
