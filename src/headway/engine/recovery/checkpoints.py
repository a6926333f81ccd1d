"""Checkpoints: what a process needs to go on with a run that another process has started.

A run whose tool may restart has a checkpoint stream beside its own: the request, who executes the
run, which items its tracks have finished, and what the tool stored itself. It is a stream of its
own because a run that emits much loses its oldest entries, and none of this may be lost. When it
has grown long, all of it is written once more as one entry, so that the entries before may go.
"""

from collections.abc import Sequence
from itertools import count

from msgspec import Raw, structs

from headway.engine.recovery.restart_state import RestartState
from headway.engine.recovery.take_over import Ownership
from headway.events import Checkpointed, Event, ItemDone, RequestStored, size_of
from headway.journal import Journal
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

CHECKPOINTS = (ItemDone, Checkpointed)
"""Events of a tool that go into the checkpoint stream, and not into the run's own."""

SUMMARY_SHARE = 4
"""All checkpoints of a run take at most this part of what is kept of a stream: whatever is trimmed,
the newest `RestartSummary` and all that follows it stay."""

NAME_BYTES = 16
"""Bytes that the name of an item takes in a `RestartSummary`."""


class Checkpoints:
    """The checkpoints of one run in this process.

    `open` and `is_done` may be called from any thread, all else on the event loop.
    """

    def __init__(
        self, ownership: Ownership, state: RestartState, parts: Sequence[Raw] = ()
    ) -> None:
        self.memory = state
        self.parts = parts
        """Partial results that earlier executions emitted before the last checkpoint."""
        self.has_skipped = False
        self._ownership = ownership
        self._tracks: dict[str, count[int]] = {}
        retention = ownership.journal.retention
        self._max_bytes = retention.stream_bytes // SUMMARY_SHARE
        self._max_entries = max(retention.stream_entries // SUMMARY_SHARE, 1)
        self._entries = self._bytes = 0
        self._is_full = False

    @classmethod
    def begin(cls, journal: Journal, run: str, request: RequestStored) -> "Checkpoints":
        """Store the request of a run that this process accepts. `run` is its stream."""
        return cls(Ownership.begin(journal, run, request), RestartState(request))

    @property
    def stream(self) -> str:
        """Name of the checkpoint stream."""
        return self._ownership.stream

    def open(self, place: str) -> str:
        """Return the name of a track that begins at this point; every execution gets the same."""
        return f"{place}/{next(self._tracks.setdefault(place, count()))}"

    def is_done(self, track: str, item: str) -> bool:
        """Return whether this execution, or one before it, has finished the item."""
        return item in self.memory.done.get(track, ())

    def write(self, event: Event, at: int = 0) -> None:
        """Add a checkpoint. `at` is the run's last entry when the tool emitted it.

        An item is left out when as many are remembered as may be: a restart repeats it.

        Raises:
            JournalError: Another process has taken the run over.
        """
        if isinstance(event, ItemDone) and not self._has_room():
            return
        if isinstance(event, CHECKPOINTS):
            event = structs.replace(event, at=at)
        self._ownership.append(event)
        self.memory.apply_entry(event)
        self._entries += 1
        self._bytes += size_of(event)
        if self._entries >= self._max_entries or self._bytes >= self._max_bytes:
            # The summary repeats all that is before it, so entries up to here may be trimmed. It is
            # one entry: a crash leaves it whole or not at all.
            self._entries = self._bytes = 0
            self._ownership.append(self.memory.as_summary())

    def end(self) -> None:
        """Close the checkpoint stream, as the run has its end.

        Raises:
            JournalError: Another process has taken the run over.
        """
        self._ownership.end()

    async def wait_until_stored(self) -> None:
        """Return when all that was written so far is in the storage.

        Raises:
            JournalError: It is not; where the storage may come back it will be tried again.
        """
        await self._ownership.wait_until_stored()

    def _has_room(self) -> bool:
        if self.memory.items * NAME_BYTES < self._max_bytes:
            return True
        if not self._is_full:
            self._is_full = True
            text = "%s: %d items are done, as many as are remembered; a restart repeats the others"
            logger.warning(text, self.stream, self.memory.items)
        return False
