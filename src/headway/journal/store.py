"""What a backend is: the contract of the storage behind a journal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.clock import Clock
from headway.errors import JournalError
from headway.events import Entry


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a stream without reading it."""

    first: int
    """The oldest entry kept; `last + 1` when none is."""
    last: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Entries of one stream for the store: they follow `after`, in order."""

    stream: str
    after: int
    entries: list[Entry]
    ended: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a journal holds."""

    held: int
    """Bytes that count for `Retention.max_bytes`; of a storage, as it was looked at last."""
    in_memory: int
    streams: int
    """In memory."""
    pending: int
    """Bytes that wait to be stored."""
    dropped: Mapping[str, int]
    """Entries and streams dropped since it was opened, by the setting they were dropped for."""


OnChange = Callable[[str | None], None]
"""To be called when there may be more of a stream; with None: of any."""


class Watch(Protocol):
    """Gives notice of what other processes write, of the streams that somebody waits for here.

    A notice is a hint: better one for nothing than one that does not come.
    """

    def add(self, stream: str) -> None:
        """Watch a stream from now on. What was written until it is watched is noticed too."""
        ...

    def discard(self, stream: str) -> None:
        """Watch it no longer."""
        ...

    def close(self) -> None:
        """Watch nothing, and give no notice any more."""
        ...


StartWatch = Callable[[OnChange, Clock], Watch]


class BlockingWriter(Protocol):
    """A way into a storage for one thread, with a connection of its own and blocking calls.

    For what must not wait for an event loop, nor for other threads: each time that one hands over
    to another it may wait for whoever has the interpreter. A storage has none unless it has a
    method `beside` that makes one.
    """

    def append(self, stream: str, entry: Entry) -> None:
        """Add an entry that ends nothing behind the one with the number before its own, durably.

        Raises:
            Conflict, StreamEnded: Somebody else wrote the stream, or ended it.
            JournalUnavailable: The storage cannot be written now; it may have been.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Store(Protocol):
    """Storage behind a journal. All methods run on the event loop and may wait."""

    @property
    def held(self) -> int:
        """Bytes of all streams, as they were looked at last."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """Entries and streams that retention dropped, by its settings; see `Usage`."""
        ...

    async def open(self) -> None:
        """Make ready, or raise `SetupError`/`JournalUnavailable` saying what to do."""
        ...

    async def close(self) -> None:
        """Let go of everything; nothing is written after this."""
        ...

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        """Commit all writes together; return the streams refused, with `Conflict` or
        `StreamEnded`. A stream's write is taken whole or not at all, only where `after` is
        the stream's last `seq`. May be called while another call goes on.

        Raises:
            JournalUnavailable: Nothing was written; the same call may be made again.
        """
        ...

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries above `after`, in order.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The entry `after + 1` existed and is gone.
        """
        ...

    async def head(self, stream: str) -> Head | None:
        """The stream's head, or None."""
        ...

    async def heads(self, streams: Sequence[str]) -> dict[str, Head]:
        """The heads of those of these streams that there are, in one step."""
        ...

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """The streams whose names start with `prefix`, oldest first; all, or those not ended."""
        ...

    async def count(self, prefix: str, *, every: bool = False) -> int:
        """How many streams that start with `prefix` have not ended, without naming them.

        With `every` those that have are counted too. Those that the storage let go of by itself
        may still be among them.
        """
        ...

    async def drop(self, streams: Sequence[str]) -> None:
        """Forget streams."""
        ...

    async def expire(self, now: float) -> None:
        """Drop what retention does not keep at `now` (seconds since 1970).

        What is over its size is taken as `shares` says: from the owners that hold most, what
        ended first; nothing that goes on, and no key.
        """
        ...

    def watch(self, notice: OnChange, clock: Clock) -> Watch:
        """What gives notice of other processes' writes. Called once, before `open`."""
        ...
