"""Chunks: the entries that a commit brings for one stream, as a storage keeps them.

A storage reads and trims whole chunks. So a chunk is kept small against a stream's limits. Where
the journal is encrypted, whole chunks are (`chunk_cipher`).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from headway.encryption import Encryption
from headway.errors import EntriesUnreadable, StreamLocked
from headway.events import Entry, decode_entries, encode_entries
from headway.journal.chunk_cipher import ChunkCipher
from headway.journal.cursor import PAGE_ENTRIES
from headway.log_lines import quiet_logger
from headway.settings import Retention

logger = quiet_logger(__name__)

Chunk = tuple[int, int, bytes]
"""The first `seq`, the last, and the entries as they are stored."""


class Chunking:
    """Makes chunks of entries and entries of chunks.

    A chunk has a quarter of what a stream may have, in entries and in bytes. It is a JSON array
    without its brackets, encrypted where there are keys.
    """

    def __init__(self, retention: Retention, encryption: Encryption | None = None) -> None:
        # Four make a limit exact enough.
        self.entries = min(PAGE_ENTRIES, max(1, retention.stream_entries // 4))
        self.bytes = max(1, retention.stream_bytes // 4)
        self.encryption = encryption
        self._cipher = ChunkCipher(encryption)

    def split_entries(self, stream: str, entries: list[Entry]) -> Iterator[Chunk]:
        """Yield the chunks that hold entries of a stream, in order.

        Raises:
            TypeError, ValueError, OverflowError: One of the entries cannot be stored.
        """
        for start in range(0, len(entries), self.entries):
            for first, last, data in self._split_to_size(entries[start : start + self.entries]):
                yield first, last, self._cipher.encrypt(stream, first, last, data)

    def decode_page(
        self, stream: str, chunks: Sequence[bytes], after: int, limit: int
    ) -> list[Entry] | None:
        """Return up to `limit` entries above `after`, from the chunks that hold them.

        Chunks may be joined by commas. None where not all entries are readable, or one is missing:
        see `decode_readable`.
        """
        joined = b",".join(chunks) if self.encryption is None else self._decrypt(stream, chunks)
        entries = None if joined is None else _decode_whole(joined)
        if not entries or entries[0].seq > after + 1:
            return None
        skip = after + 1 - entries[0].seq
        return entries[skip : skip + limit]

    def decode_readable(
        self,
        stream: str,
        chunks: Iterable[tuple[int, bytes]],
        after: int,
        limit: int,
        *,
        newest: int,
    ) -> list[Entry]:
        """Return the entries above `after` up to the first that cannot be read.

        Args:
            stream: The stream's name.
            chunks: Each with the `seq` of its last entry; not all of them can be read.
            after: The `seq` of the last entry that the reader has.
            limit: How many entries to return, at most.
            newest: The `seq` of the stream's last entry.

        Raises:
            EntriesUnreadable: The very first ones cannot be read; its `first` is the next that may
                be.
            StreamLocked: The very first ones cannot be read with the keys that are here.
        """
        found: list[Entry] = []
        first = newest + 1
        for last, data in sorted(chunks):
            reached = found[-1].seq if found else after
            try:
                plain = self._cipher.decrypt(stream, data)
            except StreamLocked:
                if not found:
                    raise
                break
            entries = [] if plain is None else _decode_whole(plain) or []
            is_whole = entries and entries[-1].seq == last
            if not is_whole or entries[0].seq > reached + 1:
                first = min(entries[0].seq if is_whole else last + 1, newest + 1)
                break
            found += entries[reached + 1 - entries[0].seq :]
        if not found:
            _log_once(stream, after + 1, first - 1)
            raise EntriesUnreadable(stream, first=first)
        return found[:limit]

    def check_samples(self, samples: Sequence[bytes], journal: str) -> None:
        """Check that what is in a journal can be read; see `ChunkCipher.check_samples`."""
        self._cipher.check_samples(samples, journal)

    def _decrypt(self, stream: str, chunks: Sequence[bytes]) -> bytes | None:
        try:
            return self._cipher.decrypt_joined(stream, chunks)
        except StreamLocked:
            return None  # some may be readable

    def _split_to_size(self, entries: list[Entry]) -> Iterator[Chunk]:
        data = encode_entries(entries)[1:-1]
        if len(data) <= self.bytes or len(entries) == 1:
            yield entries[0].seq, entries[-1].seq, data
            return
        middle = len(entries) // 2
        yield from self._split_to_size(entries[:middle])
        yield from self._split_to_size(entries[middle:])


@lru_cache(maxsize=1000)
def _log_once(stream: str, first: int, last: int) -> None:
    """Log unreadable entries once, however many read them."""
    logger.error("entries %d to %d of %s cannot be read and are passed over", first, last, stream)


def _decode_whole(data: bytes) -> list[Entry] | None:
    """Return the entries in chunks if they are numbered without a gap, else None."""
    try:
        entries = decode_entries(b"[%b]" % data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if entries and entries[-1].seq - entries[0].seq == len(entries) - 1:
        return entries
    return None
