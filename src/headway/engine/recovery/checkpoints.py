"""Checkpoints: what a process needs to go on with a run that another one began.

A run whose tool may restart has a stream beside its own: what was asked, who began it, which items
its tracks have finished and the tool's own account of how far it is. It is kept apart because a
run that says much loses its oldest entries, and nothing of this may be lost. What has grown long
is said once more in one entry, so that those before it may go.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from msgspec import Raw, structs

from headway.errors import StreamNotFound
from headway.events import (
    Checkpointed,
    Entry,
    Event,
    Forgotten,
    GivenBack,
    ItemDone,
    RequestStored,
    Restarted,
    RestartSummary,
    TakenByWorker,
    size_of,
)
from headway.journal import Journal
from headway.streams import checkpoint_stream

logger = logging.getLogger(__name__)

CHECKPOINTS = (ItemDone, Checkpointed)
"""What a tool says that is no entry of its run."""

SUMMARY_SHARE = 4
"""All of a run's checkpoints take at most this part of what is kept of a stream: whatever is
trimmed, the newest `Remembered` and all behind it stay."""

NAME_BYTES = 16
"""What the name of an item takes in a `Remembered`."""


@dataclass(slots=True)
class RestartState:
    """What the entries of a stream of checkpoints add up to."""

    begun: RequestStored
    restarts: list[Restarted] = field(default_factory=list[Restarted])
    returned: int = 0
    """How many of the restarts came after a process that stopped in order."""
    done: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """The items that are done, by track, in order."""
    value: Raw | None = None
    at: int = 0
    """The run's last entry when the newest of these was written."""
    items: int = 0
    owner: str = ""
    """The process that has the run, where that is not the one that accepted it."""
    is_over: bool = False
    """Whether the run was about to be ended; its end is written next to this, not with it."""

    @property
    def attempt(self) -> int:
        """1 for the first one."""
        return len(self.restarts) + 1

    @property
    def crashes(self) -> int:
        """How many processes have died of it, or with it."""
        return len(self.restarts) - self.returned

    def apply_entry(self, event: Event) -> None:
        """Be what it is after `event`."""
        match event:
            case ItemDone(track, item, at):
                self._take_item(track, item)
                self.at = at
            case Checkpointed(value, at):
                self.value, self.at = value, at
            case TakenByWorker(process):
                self.owner = process
            case Restarted():
                self.restarts.append(event)
                self.owner = event.process
            case GivenBack():
                self.returned += 1
                self.owner = ""
            case RestartSummary(begun, restarts, returned, done, at, value, owner):
                self.begun, self.restarts, self.returned = begun, list(restarts), returned
                self.at, self.owner = at, owner
                self.done = {track: dict.fromkeys(items) for track, items in done.items()}
                self.items = sum(map(len, self.done.values()))
                self.value = value
            case Forgotten():
                self.is_over = True
            case _:
                pass

    def _take_item(self, track: str, item: str) -> None:
        # What was tracked while the item was worked on is over with it.
        inside = item_place(track, item) + "/"
        for name in [name for name in self.done if name.startswith(inside)]:
            self.items -= len(self.done.pop(name))
        self.items += 1
        self.done.setdefault(track, {})[item] = None

    def as_summary(self) -> RestartSummary:
        """All of it in one entry."""
        done = {track: list(items) for track, items in self.done.items()}
        restarts = [*self.restarts]
        return RestartSummary(
            self.begun, restarts, self.returned, done, self.at, self.value, self.owner
        )


def fold_restart(entries: Iterable[Entry]) -> RestartState | None:
    """What these entries add up to; None where their beginning is missing."""
    memory: RestartState | None = None
    for entry in entries:
        match entry.event:
            case RequestStored() as begun:
                memory = RestartState(begun)
            case RestartSummary() as summary:
                memory = memory or RestartState(summary.begun)
                memory.apply_entry(summary)
            case event if memory is not None:
                memory.apply_entry(event)
            case _:
                pass
    return memory


async def load_restart(journal: Journal, stream: str) -> tuple[RestartState, int] | None:
    """The checkpoints of the run with this stream and their last `seq`; None: it has none.

    Raises:
        JournalError: The journal cannot be read.
    """
    try:
        entries = await journal.read_all_kept(checkpoint_stream(stream))
    except StreamNotFound:
        return None
    memory = fold_restart(entries)
    return None if memory is None else (memory, entries[-1].seq)


def item_place(track: str, item: str) -> str:
    """Where tracks are that begin while this item is worked on."""
    return f"{track}.{item}"


class Checkpoints:
    """The checkpoints of one run in this process. `is_done` and `open` are for any thread."""

    def __init__(
        self,
        journal: Journal,
        stream: str,
        restart_state: RestartState,
        seq: int,
        parts: Sequence[Raw] = (),
    ) -> None:
        self.stream = stream
        self.memory = restart_state
        self.parts = parts
        """What earlier attempts gave out before the last checkpoint."""
        self.has_skipped = False
        self._journal = journal
        self._seq = seq
        self._tracks: dict[str, count[int]] = {}
        retention = journal.retention
        self._most = retention.stream_bytes // SUMMARY_SHARE
        self._most_entries = max(retention.stream_entries // SUMMARY_SHARE, 1)
        self._entries = self._bytes = 0
        self._is_full = False

    @classmethod
    def begin(cls, journal: Journal, run: str, begun: RequestStored) -> "Checkpoints":
        """Those of a run that begins."""
        stream = checkpoint_stream(run)
        return cls(
            journal, stream, RestartState(begun), journal.append_nowait(stream, begun, after=0)
        )

    def open(self, place: str) -> str:
        """The name of a track that begins at this place; the same one in every attempt."""
        return f"{place}/{next(self._tracks.setdefault(place, count()))}"

    def is_done(self, track: str, item: str) -> bool:
        """Whether an attempt before this one, or this one, has finished the item."""
        return item in self.memory.done.get(track, ())

    def write(self, event: Event, at: int = 0) -> None:
        """Add a checkpoint, said behind the run's entry `at`; on the event loop only.

        Raises:
            JournalError: The stream is another process's by now.
        """
        if isinstance(event, ItemDone) and not self._has_room():
            return
        if isinstance(event, CHECKPOINTS):
            event = structs.replace(event, at=at)
        self._seq = self._journal.append_nowait(self.stream, event, after=self._seq)
        self.memory.apply_entry(event)
        self._entries += 1
        self._bytes += size_of(event)
        if self._entries >= self._most_entries or self._bytes >= self._most:
            self._entries = self._bytes = 0
            summary = self.memory.as_summary()
            self._seq = self._journal.append_nowait(self.stream, summary, after=self._seq)

    def end(self) -> None:
        """The run has its end: nobody will need this."""
        self._journal.append_nowait(self.stream, Forgotten(), after=self._seq)

    async def wait_until_stored(self) -> None:
        """Return when all that was written so far is in the storage.

        Raises:
            JournalError: It is not; where the storage may come back it will be tried again.
        """
        await self._journal.wait_until_stored(self.stream)

    def _has_room(self) -> bool:
        if self.memory.items * NAME_BYTES < self._most:
            return True
        if not self._is_full:
            self._is_full = True
            text = "%s: %d items are done, as many as are remembered; a restart repeats the others"
            logger.warning(text, self.stream, self.memory.items)
        return False
