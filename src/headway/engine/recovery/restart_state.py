"""The state that a run restarts from: the fold of its checkpoint stream."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Raw

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
)
from headway.journal import Journal
from headway.stream_names import checkpoint_stream


@dataclass(slots=True)
class RestartState:
    """All that the entries of one checkpoint stream add up to."""

    request: RequestStored
    restarts: list[Restarted] = field(default_factory=list[Restarted])
    returned: int = 0
    """Number of restarts that followed a process which stopped in order."""
    done: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """The items that are done, by track, in order."""
    value: Raw | None = None
    at: int = 0
    """Number of the run's last entry when the newest checkpoint was written."""
    items: int = 0
    """Number of items in `done`."""
    owner: str = ""
    """Id of the process that executes the run; empty for the one that accepted it, or for none."""
    is_over: bool = False
    """Whether a process was about to end the run: it writes this before the end itself."""

    @property
    def attempt(self) -> int:
        """Number of the current execution, from 1."""
        return len(self.restarts) + 1

    @property
    def crashes(self) -> int:
        """Number of processes that died while they executed the run."""
        return len(self.restarts) - self.returned

    def apply_entry(self, event: Event) -> None:
        """Bring the state up to date with `event`."""
        match event:
            case ItemDone(track, item, at):
                self._add_item(track, item)
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
            case RestartSummary(request, restarts, returned, done, at, value, owner):
                self.request, self.restarts, self.returned = request, list(restarts), returned
                self.at, self.owner = at, owner
                self.done = {track: dict.fromkeys(items) for track, items in done.items()}
                self.items = sum(map(len, self.done.values()))
                self.value = value
            case Forgotten():
                self.is_over = True
            case _:
                pass

    def _add_item(self, track: str, item: str) -> None:
        # Tracks that began inside of the item are over with it: forget their items.
        inside = item_place(track, item) + "/"
        for name in [name for name in self.done if name.startswith(inside)]:
            self.items -= len(self.done.pop(name))
        self.items += 1
        self.done.setdefault(track, {})[item] = None

    def as_summary(self) -> RestartSummary:
        """Return the whole state as one event, so that all entries before it may be trimmed."""
        done = {track: list(items) for track, items in self.done.items()}
        restarts = [*self.restarts]
        return RestartSummary(
            self.request, restarts, self.returned, done, self.at, self.value, self.owner
        )


def fold_restart(entries: Iterable[Entry]) -> RestartState | None:
    """Return the state after these entries, or None where the first of them is missing."""
    state: RestartState | None = None
    for entry in entries:
        match entry.event:
            case RequestStored() as request:
                state = RestartState(request)
            case RestartSummary() as summary:
                state = state or RestartState(summary.begun)
                state.apply_entry(summary)
            case event if state is not None:
                state.apply_entry(event)
            case _:
                pass
    return state


async def load_restart(journal: Journal, stream: str) -> tuple[RestartState, int] | None:
    """Return the restart state of the run in `stream` and the number of its last entry, or None.

    Raises:
        JournalError: The journal cannot be read.
    """
    try:
        entries = await journal.read_all_kept(checkpoint_stream(stream))
    except StreamNotFound:
        return None
    state = fold_restart(entries)
    return None if state is None else (state, entries[-1].seq)


def item_place(track: str, item: str) -> str:
    """Return the name below which tracks are named that begin while an item is worked on."""
    return f"{track}.{item}"
