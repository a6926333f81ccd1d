"""All stream buffers of a process, and the bounds that they are held within."""

from collections import Counter
from collections.abc import Iterator

from headway.events import Entry, is_failure, size_of
from headway.journal.eviction import KeptStreams
from headway.journal.store import Head
from headway.journal.stream_buffer import StreamBuffer
from headway.settings import Retention


class BufferPool:
    """The buffers of one journal by their streams' names, and how many bytes they take together.

    The code that appends to a buffer adds to `size` itself, and calls `trim` and `make_room` where
    a limit is passed. That happens for every entry, and a method call each time would cost more
    than the rest of an append.
    """

    __slots__ = (
        "_kept", "_retention", "by_name", "dropped", "full_at", "size", "stream_bytes",
        "stream_entries",
    )  # fmt: skip

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._kept = KeptStreams(retention.extra_of_failed)
        self.by_name: dict[str, StreamBuffer] = {}
        self.size = 0
        """Bytes of all buffers."""
        self.full_at = retention.max_bytes
        """The size from which `make_room` is to be asked."""
        self.stream_bytes = retention.stream_bytes
        self.stream_entries = retention.stream_entries
        self.dropped = Counter[str]()
        """Entries and streams dropped, by the setting that they were dropped for."""

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[StreamBuffer]:
        return iter(self.by_name.values())

    def add(self, stream: str, head: Head | None, *, recorded: bool) -> StreamBuffer:
        """Make the buffer of a stream, of which the storage has what `head` says."""
        buffer = StreamBuffer(stream, head.last if head else 0, recorded=recorded)
        buffer.ended = head.ended if head else False
        self.by_name[stream] = buffer
        self._kept.add_unfinished(buffer)
        self.size += buffer.size
        return buffer

    def keep_ended(self, buffer: StreamBuffer, end: Entry) -> None:
        """Keep a stream that has ended, and that no storage has, for the time that is set."""
        size = buffer.size
        failed = is_failure(end.event)
        expires = end.time + self._retention.seconds_kept(is_failure=failed)
        self.size -= self._kept.mark_ended(buffer, expires, is_failure=failed)
        # Now there is something that could be dropped for room, so it is looked at earlier.
        self.full_at = max(self._retention.max_bytes, self.full_at - size)

    def trim(self, buffer: StreamBuffer, *, has_storage: bool) -> None:
        """Forget the oldest quarter of a buffer.

        With a storage only what that has is forgotten, so nothing is lost and nothing is counted.
        """
        count = len(buffer.entries) // 4
        if has_storage:
            count = min(count, buffer.stored - buffer.base)
        else:
            is_large = buffer.size > self.stream_bytes
            self.dropped["keep.stream_bytes" if is_large else "keep.stream_entries"] += count
        forgotten = buffer.entries[:count]
        del buffer.entries[:count]
        buffer.base += count
        size = _size_of_all(forgotten)
        buffer.size -= size
        self.size -= size

    def make_room(self) -> None:
        """Drop ended streams until all buffers fit: first the oldest of the owners that hold most.

        Streams that go on are never dropped. They may take more than the bound by themselves;
        then this is asked again when they have grown by a sixteenth of it.
        """
        most = self._retention.max_bytes
        for buffer in self._kept.take_surplus(most - most // 16):
            self.remove(buffer, "keep.max_bytes")
        self.full_at = max(most, self.size + most // 16)

    def drop_expired(self, now: float) -> None:
        """Drop the streams whose time is over at `now` (seconds since 1970)."""
        for buffer in self._kept.take_expired(now):
            self.remove(buffer, "keep.ttl")

    def remove(self, buffer: StreamBuffer, limit: str | None = None) -> None:
        """Forget a buffer; where it is for a limit, count the stream as dropped for it."""
        # A stream that was dropped and begun again has another buffer by now.
        if self.by_name.get(buffer.stream) is buffer:
            del self.by_name[buffer.stream]
            self._kept.discard(buffer)
            self.size -= buffer.size
            if limit is not None:
                self.dropped[limit] += 1


def _size_of_all(entries: list[Entry]) -> int:
    return sum(size_of(entry.event) for entry in entries)
