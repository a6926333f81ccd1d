"""Chunks: what a commit brings for a stream, as a storage keeps it."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from headway.errors import EntriesUnreadable
from headway.events import Entry, decode_entries, encode_entries
from headway.journal.cursor import PAGE_ENTRIES
from headway.settings import Retention

logger = logging.getLogger(__name__)

Chunk = tuple[int, int, bytes]
"""The first `seq`, the last, and the entries: a JSON array without its brackets."""


class Chunking:
    """How entries become chunks: so small that trimming whole ones keeps within a stream's
    limits."""

    def __init__(self, retention: Retention) -> None:
        # Four make a limit exact enough.
        self.entries = min(PAGE_ENTRIES, max(1, retention.stream_entries // 4))
        self.bytes = max(1, retention.stream_bytes // 4)

    def split_entries(self, entries: list[Entry]) -> Iterator[Chunk]:
        """The chunks that hold the entries, in order.

        Raises:
            TypeError, ValueError, OverflowError: One of them cannot be stored.
        """
        for start in range(0, len(entries), self.entries):
            yield from self._split_to_size(entries[start : start + self.entries])

    def _split_to_size(self, entries: list[Entry]) -> Iterator[Chunk]:
        data = encode_entries(entries)[1:-1]
        if len(data) <= self.bytes or len(entries) == 1:
            yield entries[0].seq, entries[-1].seq, data
            return
        middle = len(entries) // 2
        yield from self._split_to_size(entries[:middle])
        yield from self._split_to_size(entries[middle:])


def decode_page(chunks: Sequence[bytes], after: int, limit: int) -> list[Entry] | None:
    """Return up to `limit` entries above `after`, from the chunks that hold them.

    None where not all of them are readable, or one is missing: see `readable_of`.
    """
    entries = _decode_whole(b",".join(chunks))
    if not entries or entries[0].seq > after + 1:
        return None
    skip = after + 1 - entries[0].seq
    return entries[skip : skip + limit]


def decode_readable(
    stream: str, chunks: Iterable[tuple[int, bytes]], after: int, limit: int, *, newest: int
) -> list[Entry]:
    """Return what can be read of chunks of which not all can; each comes with its last `seq`.

    Some entries above `after` up to the first that cannot be read, which are told in the log.

    Raises:
        EntriesUnreadable: They are the very first; it says where to go on.
    """
    found: list[Entry] = []
    first = newest + 1
    for last, data in sorted(chunks):
        place = found[-1].seq if found else after
        entries = _decode_whole(data) or []
        is_whole = entries and entries[-1].seq == last
        if not is_whole or entries[0].seq > place + 1:
            first = min(entries[0].seq if is_whole else last + 1, newest + 1)
            break
        found += entries[place + 1 - entries[0].seq :]
    if not found:
        _log_once(stream, after + 1, first - 1)
        raise EntriesUnreadable(stream, first=first)
    return found[:limit]


@lru_cache(maxsize=1000)
def _log_once(stream: str, first: int, last: int) -> None:
    """Log it once, whoever reads how often."""
    logger.error("entries %d to %d of %s cannot be read and are passed over", first, last, stream)


def _decode_whole(data: bytes) -> list[Entry] | None:
    """The entries in chunks, numbered without a gap; None where they are not."""
    try:
        entries = decode_entries(b"[%b]" % data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if entries and entries[-1].seq - entries[0].seq == len(entries) - 1:
        return entries
    return None
