"""Shares: whose a stream is, and who makes room in a journal that is full.

The idea needed to read it: **who holds most gives up first.** A journal has one bound for all
callers (`keep.max_bytes`). Over it, the owners that hold most give up what ended first, down to one
level; who holds less than that level loses nothing, whatever the others do.

Two kinds of stream are never dropped for room. What goes on is somebody's work. And a key outlives
the run that it names: that something was executed takes some hundred bytes to know, and not to know
it would be to execute it again. Keys are bounded by their number instead (`max_keys`).
"""

import re
from collections import deque
from collections.abc import Mapping

from headway.journal.stream_buffer import StreamBuffer
from headway.streams import KEY_STREAMS

UNPACKED_STREAMS = 64
"""Ended streams that are kept unpacked: their readers are about to read the end."""

_OWNER = re.compile(r"[^/]*/([^/.]*)")


def owner_of(stream: str) -> str:
    """Return whose a stream is: `alice` for `run/alice.session/1` and `key/alice/2`.

    It stands between the first slash of the name and the next slash or dot. Streams without a
    slash are nobody's and share the owner ''.
    """
    found = _OWNER.match(stream)
    return found[1] if found else ""


def bytes_to_free(held: Mapping[str, int], most: int) -> dict[str, int]:
    """Return how many bytes each owner has to give up, so that all of them hold at most `most`.

    Those that hold more than a level give up what is above it. The level is where what is left
    comes to `most`, so it is never below an equal share of it.
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
    """The streams that a process holds in memory, by their owners."""

    def __init__(self) -> None:
        self._alive: set[StreamBuffer] = set()
        self._ended: dict[str, _EndedOfOwner] = {}
        self._fresh: dict[StreamBuffer, None] = {}  # in the order in which they ended

    def add_unfinished(self, tail: StreamBuffer) -> None:
        """Count a stream that goes on."""
        self._alive.add(tail)

    def mark_ended(self, tail: StreamBuffer, expires: float) -> int:
        """Keep a stream that has ended until `expires`; return by how many bytes others shrank."""
        self._alive.discard(tail)
        owner = owner_of(tail.stream)
        share = self._ended.get(owner)
        if share is None:
            share = self._ended[owner] = _EndedOfOwner()
        share.bytes += tail.size
        is_lasting = tail.stream.startswith(KEY_STREAMS)
        (share.lasting if is_lasting else share.streams).append((expires, tail))
        self._fresh[tail] = None
        return (
            self._pack_buffer(next(iter(self._fresh))) if len(self._fresh) > UNPACKED_STREAMS else 0
        )

    def _pack_buffer(self, tail: StreamBuffer) -> int:
        del self._fresh[tail]
        shrunk = tail.pack()
        self._ended[owner_of(tail.stream)].bytes -= shrunk
        return shrunk

    def discard(self, tail: StreamBuffer) -> None:
        """Count a stream no more, which is forgotten for whatever reason."""
        tail.is_gone = True
        self._fresh.pop(tail, None)
        if tail in self._alive:
            self._alive.discard(tail)
        elif (share := self._ended.get(owner_of(tail.stream))) is not None:
            share.bytes -= tail.size

    def take_expired(self, now: float) -> list[StreamBuffer]:
        """Take out the streams whose time is over."""
        found: list[StreamBuffer] = []
        for owner, share in list(self._ended.items()):
            for streams in (share.streams, share.lasting):
                while streams and (streams[0][1].is_gone or streams[0][0] <= now):
                    found.append(streams.popleft()[1])
            if not share.streams and not share.lasting:
                del self._ended[owner]
        return [tail for tail in found if not tail.is_gone]

    def take_surplus(self, most: int) -> list[StreamBuffer]:
        """Take out the streams that have to go, so that all together take `most` bytes.

        What goes on may take more than that by itself: then more is left.
        """
        held = {owner: share.bytes for owner, share in self._ended.items()}
        for tail in self._alive:
            owner = owner_of(tail.stream)
            held[owner] = held.get(owner, 0) + tail.size
        found: list[StreamBuffer] = []
        for owner, due in bytes_to_free(held, most).items():
            streams = self._ended[owner].streams if owner in self._ended else ()
            while streams and due > 0:
                tail = streams.popleft()[1]
                if not tail.is_gone:
                    due -= tail.size
                    found.append(tail)
        return found


class _EndedOfOwner:
    """The ended streams of one owner, each kind in the order in which it expires."""

    __slots__ = ("bytes", "lasting", "streams")

    def __init__(self) -> None:
        self.bytes = 0
        self.streams = deque[tuple[float, StreamBuffer]]()
        self.lasting = deque[tuple[float, StreamBuffer]]()
