"""Eviction: which streams of which owners are dropped when a journal is full.

The idea needed to read it: **the owners that hold most give up first.** A journal has one bound
for all owners (`keep.max_bytes`). Over it, a level is chosen. Owners above the level give up the
streams that ended first, until they are down to it. An owner below the level loses nothing,
whatever the others do.

What ended first goes first, whatever it is kept for: a failed run may stay for days where there is
room (`keep.failed`), and takes none from results that are newer than it.

Two kinds of stream are never dropped for room:

- Streams that have not ended. Each is work that goes on.
- Keys (`key/…`). A key outlives the run that it names: it takes some hundred bytes to know
  that a call was executed, and without it the call would be executed again. The number of keys has
  a bound of its own (`max_keys`).
"""

from collections import deque
from collections.abc import Mapping

from headway.journal.stream_buffer import StreamBuffer
from headway.stream_names import KEY_STREAMS

UNPACKED_STREAMS = 64
"""Ended streams that are kept unpacked: the newest, whose readers are about to read the end."""


def owner_of(stream: str) -> str:
    """Return the owner of a stream: `alice` for `run/alice.session/1` and `key/alice/2`.

    The owner stands between the first slash of the name and the next slash or dot. Streams without
    a slash have no owner; they share the name ''.
    """
    return stream.partition("/")[2].partition("/")[0].partition(".")[0]


def bytes_to_free(held: Mapping[str, int], most: int) -> dict[str, int]:
    """Return how many bytes each owner has to give up, so that all of them hold at most `most`.

    Owners that hold more than a level give up what is above it. The level is chosen so that what
    is left comes to `most`; it is never below an equal share of it.
    """
    if sum(held.values()) <= most:
        return {}
    level, left, sizes = 0, most, sorted(held.values())
    for number, size in enumerate(sizes):
        level = left // (len(sizes) - number)
        if size > level:
            break
        left -= size
    return {owner: size - level for owner, size in held.items() if size > level}


class KeptStreams:
    """The streams that a process holds in memory: those that go on, and the ended ones by owner."""

    def __init__(self, extra_of_failed: float) -> None:
        self._extra_of_failed = extra_of_failed
        self._alive: set[StreamBuffer] = set()
        self._ended: dict[str, _EndedOfOwner] = {}
        self._fresh: dict[StreamBuffer, _EndedOfOwner] = {}  # in the order in which they ended

    def add_unfinished(self, buffer: StreamBuffer) -> None:
        """Add a stream that has not ended."""
        self._alive.add(buffer)

    def mark_ended(self, buffer: StreamBuffer, expires: float, *, is_failure: bool) -> int:
        """Keep a stream that has ended until `expires`; return by how many bytes others shrank.

        Others shrink because only the newest ended streams are kept unpacked.
        """
        self._alive.discard(buffer)
        owner = owner_of(buffer.stream)
        share = self._ended.get(owner)
        if share is None:
            share = self._ended[owner] = _EndedOfOwner()
        share.bytes += buffer.size
        is_lasting = buffer.stream.startswith(KEY_STREAMS)
        kind = share.failed if is_failure else share.lasting if is_lasting else share.streams
        kind.append((expires, buffer))
        self._fresh[buffer] = share
        return self._pack_oldest() if len(self._fresh) > UNPACKED_STREAMS else 0

    def _pack_oldest(self) -> int:
        buffer = next(iter(self._fresh))
        share = self._fresh.pop(buffer)
        shrunk = buffer.pack()
        share.bytes -= shrunk
        return shrunk

    def discard(self, buffer: StreamBuffer) -> None:
        """Forget a stream, for whatever reason."""
        buffer.is_gone = True
        self._fresh.pop(buffer, None)
        if buffer in self._alive:
            self._alive.discard(buffer)
        elif (share := self._ended.get(owner_of(buffer.stream))) is not None:
            share.bytes -= buffer.size

    def take_expired(self, now: float) -> list[StreamBuffer]:
        """Remove the streams whose time is over at `now`, and return them."""
        found: list[StreamBuffer] = []
        for owner, share in list(self._ended.items()):
            for streams in share.kinds:
                while streams and (streams[0][1].is_gone or streams[0][0] <= now):
                    found.append(streams.popleft()[1])
            if not any(share.kinds):
                del self._ended[owner]
        return [buffer for buffer in found if not buffer.is_gone]

    def take_surplus(self, most: int) -> list[StreamBuffer]:
        """Remove the streams that have to go for all others to take `most` bytes; return them.

        Streams that go on may take more than that by themselves: then more is left.
        """
        held = {owner: share.bytes for owner, share in self._ended.items()}
        for buffer in self._alive:
            owner = owner_of(buffer.stream)
            held[owner] = held.get(owner, 0) + buffer.size
        found: list[StreamBuffer] = []
        for owner, due in bytes_to_free(held, most).items():
            share = self._ended.get(owner)
            while share is not None and due > 0:
                buffer = share.take_oldest(self._extra_of_failed)
                if buffer is None:
                    break
                if not buffer.is_gone:
                    due -= buffer.size
                    found.append(buffer)
        return found


class _EndedOfOwner:
    """The ended streams of one owner, each kind in the order in which it expires."""

    __slots__ = ("bytes", "failed", "lasting", "streams")

    def __init__(self) -> None:
        self.bytes = 0
        self.streams = deque[tuple[float, StreamBuffer]]()
        self.failed = deque[tuple[float, StreamBuffer]]()
        self.lasting = deque[tuple[float, StreamBuffer]]()

    @property
    def kinds(self) -> tuple[deque[tuple[float, StreamBuffer]], ...]:
        """All of them, by kind."""
        return self.streams, self.failed, self.lasting

    def take_oldest(self, extra_of_failed: float) -> StreamBuffer | None:
        """Remove the stream that ended first, of those that may be dropped for room."""
        if not self.streams or (
            self.failed and self.failed[0][0] - extra_of_failed < self.streams[0][0]
        ):
            return self.failed.popleft()[1] if self.failed else None
        return self.streams.popleft()[1]
