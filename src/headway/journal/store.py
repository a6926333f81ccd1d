"""The contract of a journal's storage: `Store`, and what it takes and gives.

`headway.testing.check_journal` holds a backend against it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.clock import Clock
from headway.errors import JournalError
from headway.events import Entry
from headway.rate_limits import Rate


@dataclass(frozen=True, slots=True)
class Head:
    """The ends of a stream: known without reading its entries."""

    first: int
    """The oldest entry kept; `last + 1` when none is."""
    last: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Entries of one stream for the store, in order; the first one follows entry `after`."""

    stream: str
    after: int
    entries: list[Entry]
    ended: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a journal holds."""

    held: int
    """Bytes that count for `Retention.max_bytes`; for a storage, as of its last count."""
    in_memory: int
    """Bytes of the buffers of this process."""
    streams: int
    """Streams in memory."""
    pending: int
    """Bytes that wait to be stored."""
    dropped: Mapping[str, int]
    """Entries and streams dropped since it was opened, by the setting they were dropped for."""


OnChange = Callable[[str | None], None]
"""Called when there may be more of a stream; with None: of any stream."""


class Watch(Protocol):
    """A source of notices: other processes may have written a stream that is waited for here.

    A notice is a hint. It may come for nothing, but it must not fail to come.
    """

    def add(self, stream: str) -> None:
        """Watch a stream. What is written before the watch is set up is noticed, too."""
        ...

    def discard(self, stream: str) -> None:
        """Stop watching a stream."""
        ...

    def close(self) -> None:
        """Stop watching all streams; no notice is given after this."""
        ...


StartWatch = Callable[[OnChange, Clock], Watch]


class BlockingWriter(Protocol):
    """A writer for one thread, with a connection of its own and blocking calls.

    For entries that must not wait for an event loop, nor for other threads: each time that one
    thread hands over to another it may wait for the interpreter lock. A storage that has one has a
    method `blocking_writer` that makes it.
    """

    def append(self, stream: str, entry: Entry) -> None:
        """Add an entry that is not terminal, after the one with the number before its own, durably.

        Raises:
            Conflict, StreamEnded: Another process wrote the stream, or ended it.
            JournalUnavailable: The storage cannot be written now; the entry may be stored.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class RateStore(Protocol):
    """A storage that keeps rates, for all processes that use it. Not every storage does."""

    async def take_one(self, name: str, rate: Rate, time: Callable[[], float]) -> float:
        """Count one of `name` and return 0; or return the seconds until it may come.

        Of two processes that ask in the same moment for the last one, one gets it. What is kept of
        a name is forgotten when its rate is whole again. `time` returns seconds since 1970, from
        any thread; a storage with a clock of its own goes by that.

        Raises:
            JournalUnavailable: It cannot be counted now.
        """
        ...


class Store(Protocol):
    """The storage of a journal. All methods run on the event loop and may wait."""

    @property
    def held(self) -> int:
        """Return bytes of all streams, as of the last count."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """Entries and streams dropped, by the setting they were dropped for; see `Usage`."""
        ...

    async def open(self) -> None:
        """Make the storage ready.

        Raises:
            SetupError: It cannot be used as it is set up; the text says what to change.
            JournalUnavailable: It cannot be used now.
        """
        ...

    async def close(self) -> None:
        """Finish the writes begun, then let go of the storage; nothing is written after this."""
        ...

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        """Commit all writes together, and return why streams were refused, by their names.

        A stream's write is taken whole or not at all, and only where `after` is the stream's last
        `seq`: the others are refused with `Conflict` or `StreamEnded`. May be called while another
        call goes on.

        Raises:
            JournalUnavailable: Nothing was written; the same call may be made again.
        """
        ...

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        """Return up to `limit` entries above `after`, in order.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The entry `after + 1` existed and is gone.
        """
        ...

    async def head(self, stream: str) -> Head | None:
        """Return the stream's head, or None where there is no such stream."""
        ...

    async def heads(self, streams: Sequence[str]) -> dict[str, Head]:
        """Return the heads of those of these streams that there are, with one question."""
        ...

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """Return the streams that start with `prefix`, oldest first: all, or those not ended."""
        ...

    async def count(self, prefix: str, *, every: bool = False) -> int:
        """Return how many streams that start with `prefix` have not ended, without naming them.

        With `every` the ended ones are counted, too. Streams that the storage has let expire by
        itself may still be counted.
        """
        ...

    async def count_bytes(self) -> int:
        """Return how many bytes all streams take, counted now."""
        ...

    async def drop(self, streams: Sequence[str]) -> None:
        """Forget streams."""
        ...

    async def expire(self, now: float) -> None:
        """Drop what retention does not keep at `now` (seconds since 1970).

        First the streams whose time is over. Then, over `max_bytes`, those that `eviction` names:
        of the owners that hold most, what ended first; nothing that goes on, and no key.
        """
        ...

    def watch(self, notice: OnChange, clock: Clock) -> Watch:
        """Return what gives notice of other processes' writes. Called once, before `open`."""
        ...
