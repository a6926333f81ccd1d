"""Chunks: what a commit brings for a stream, as a storage keeps it."""

from collections.abc import Iterator, Sequence

from headway.events import Entry, decode_entries, encode_entries
from headway.journal.cursor import PAGE
from headway.settings import Retention

Chunk = tuple[int, int, bytes]
"""The first `seq`, the last, and the entries: a JSON array without its brackets."""


class Chunking:
    """How entries become chunks: so small that trimming whole ones keeps within a stream's
    limits."""

    def __init__(self, retention: Retention) -> None:
        # Four make a limit exact enough.
        self.entries = min(PAGE, max(1, retention.stream_entries // 4))
        self.bytes = max(1, retention.stream_bytes // 4)

    def chunks(self, entries: list[Entry]) -> Iterator[Chunk]:
        """The chunks that hold the entries, in order.

        Raises:
            TypeError, ValueError, OverflowError: One of them cannot be stored.
        """
        for start in range(0, len(entries), self.entries):
            yield from self._halves(entries[start : start + self.entries])

    def _halves(self, entries: list[Entry]) -> Iterator[Chunk]:
        data = encode_entries(entries)[1:-1]
        if len(data) <= self.bytes or len(entries) == 1:
            yield entries[0].seq, entries[-1].seq, data
            return
        middle = len(entries) // 2
        yield from self._halves(entries[:middle])
        yield from self._halves(entries[middle:])


def page_of(chunks: Sequence[bytes], after: int, limit: int) -> list[Entry]:
    """Up to `limit` entries above `after`, from the chunks that hold them.

    Raises:
        msgspec.DecodeError: They are not readable.
    """
    entries = decode_entries(b"[%b]" % b",".join(chunks))
    skip = after + 1 - entries[0].seq
    return entries[skip : skip + limit]
