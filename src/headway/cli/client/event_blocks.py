"""A stream of server-sent events as whole events: what was cut off in the middle is none."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_END: Final = re.compile(rb"\n\r?\n|\r\r|\n\r(?=[^\n])")
"""Two line ends (HTML, 9.2.5), each of its own kind. `\\n\\r` may be half of `\\n\\r\\n`."""

_FIELD: Final = re.compile(rb"(?<![^\r\n])(id|retry)(?:: ?([^\r\n]*))?(?=[\r\n])")


class EventBlock(NamedTuple):
    """One event, or a comment, as it came."""

    data: bytes
    id: str | None
    """Its id; empty where it takes the last one back (HTML, 9.2.6); None where it says none."""
    retry: float | None
    """Seconds after which the stream may be asked for again; None where it does not say."""


class EventSplitter:
    """Splits bytes into events, whatever pieces they come in."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def unfinished(self) -> int:
        """Return the bytes of the event that has not ended yet."""
        return len(self._rest)

    def feed(self, piece: bytes) -> Iterator[EventBlock]:
        """Yield the events that end in this piece."""
        looked_at = max(0, len(self._rest) - 3)
        self._rest += piece
        begin = 0
        while (end := _END.search(self._rest, looked_at)) is not None:
            yield _block_of(bytes(self._rest[begin : end.end()]))
            begin = looked_at = end.end()
        del self._rest[:begin]


def _block_of(data: bytes) -> EventBlock:
    fields = {name: value.decode("utf-8", "replace") for name, value in _FIELD.findall(data)}
    retry = fields.get(b"retry", "")
    # A float takes any number of digits: Python's integers do not.
    return EventBlock(
        data,
        fields.get(b"id"),
        float(retry) / 1000 if retry.isascii() and retry.isdigit() else None,
    )
