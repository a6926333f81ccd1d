"""Restart after a crash: `checkpoint`, `last_checkpoint`, `attempt`, `earlier_parts`, and the
items of a `track` that are done.

All of it is about runs of tools with `restart=True`. For other tools nothing is stored, and every
run is its first attempt.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Generator
from hashlib import blake2b
from typing import Any, TypeVar, overload

import msgspec

from headway.encoding import encode_value, to_plain
from headway.engine import ToolRun, current_run, warn_unheard
from headway.engine.recovery.checkpoints import Checkpoints
from headway.engine.recovery.restart_state import item_place
from headway.engine.run.cancellation import TAKEN_OVER
from headway.engine.run.stages import Items, innermost_node
from headway.errors import Conflict, RunCancelled, StreamEnded
from headway.events import Checkpointed, ItemDone, decode_json

T = TypeVar("T")

LARGEST = 1024 * 1024
"""Bytes of JSON that a checkpoint may take."""

Name = Callable[[Any], object]
"""A function that returns the name of a track's item, the same in each attempt."""


class Stored:
    """The result of `checkpoint`: awaiting it returns when the checkpoint is in the journal."""

    def __init__(self, run: ToolRun | None) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, None]:
        if self._run is not None:
            yield from _wait_until_stored(self._run).__await__()


async def _wait_until_stored(run: ToolRun) -> None:
    try:
        await run.wait_until_stored()
    except (Conflict, StreamEnded) as error:
        run.stop(TAKEN_OVER)
        raise RunCancelled(TAKEN_OVER.reason) from error


def checkpoint(value: object) -> Stored:
    """Keep `value` for the next attempt, should this process die: `last_checkpoint` returns it.

    It never waits. The journal has it some milliseconds later, after all that the tool gave out
    before; `await checkpoint(value)` returns when it has. Only the newest one counts. `value` is
    what JSON can hold, up to 1 MiB: say where you are, and keep large things elsewhere.

    Raises:
        TypeError: JSON cannot hold the value.
        ValueError: It is too large.
        RunCancelled: In a thread, when the run was cancelled; awaited, when another process has
            taken the run over. Let it pass.
        JournalUnavailable: Awaited: the journal cannot be written now. It is tried again.
    """
    data = encode_value(value, "checkpoint")
    if len(bytes(data)) > LARGEST:
        raise ValueError(f"a checkpoint may take {LARGEST} bytes; this one has {len(bytes(data))}")
    run = current_run.get()
    if run is None:
        warn_unheard("checkpoint()")
    else:
        run.output.emit_event(Checkpointed(data))
    return Stored(run)


@overload
def last_checkpoint() -> Any: ...
@overload
def last_checkpoint(default: T) -> T: ...
def last_checkpoint(default: Any = None) -> Any:
    """Return the value of the newest checkpoint of this attempt or an earlier one, as JSON has it.

    It is `default` if there is none. Call it when the tool begins.
    """
    checkpoints = _current_checkpoints()
    value = None if checkpoints is None else checkpoints.memory.value
    return default if value is None else decode_json(value)


def attempt() -> int:
    """Return the number of this attempt: 1, or more after another process has died."""
    run = current_run.get()
    return 1 if run is None else run.attempt


def earlier_parts() -> list[Any]:
    """Return the parts that earlier attempts gave out before the last checkpoint, as JSON has them.

    With them the result of a restarted tool can cover the items that it skipped. There are as many
    as the journal keeps of a run: 10,000 entries or 8 MiB unless the operator says otherwise.
    """
    checkpoints = _current_checkpoints()
    return [] if checkpoints is None else [decode_json(value) for value in checkpoints.parts]


def has_skipped() -> bool:
    """Return whether a track has left out items that an earlier attempt has finished."""
    checkpoints = _current_checkpoints()
    return checkpoints is not None and checkpoints.has_skipped


def _current_checkpoints() -> Checkpoints | None:
    run = current_run.get()
    return None if run is None else run.checkpoints


class TrackCheckpoints:
    """The checkpoints of one track; for the thread or task that works on its items."""

    def __init__(self, run: ToolRun, checkpoints: Checkpoints, name: Name | None) -> None:
        self._run = run
        self._checkpoints = checkpoints
        self._name = name
        self._track = checkpoints.open(_outer_path(run))
        self._seen: dict[str, int] = {}
        self._item = ""

    def is_done(self, item: object) -> bool:
        """Take the next item, and return whether it is done already.

        Raises:
            TypeError: It has no name that is the same in another process.
        """
        name = digest_name(item if self._name is None else self._name(item))
        # Items that are the same are counted: each of them is done by itself.
        self._seen[name] = count = self._seen.get(name, 0) + 1
        self._item = name if count == 1 else f"{name}{count}"
        if self._checkpoints.is_done(self._track, self._item):
            self._checkpoints.has_skipped = True
            return True
        return False

    def mark_done(self) -> None:
        """Record that the item is done."""
        self._run.output.emit_event(ItemDone(self._track, self._item))

    @property
    def inner_path(self) -> str:
        """The path of tracks that begin now."""
        return item_place(self._track, self._item)


def item_checkpoints_for(run: ToolRun, name: bool | Name) -> TrackCheckpoints | None:
    """Return the checkpoints of a track that begins; None where it keeps none."""
    if name is False or run.checkpoints is None:
        return None
    return TrackCheckpoints(run, run.checkpoints, None if name is True else name)


def digest_name(name: object) -> str:
    """Return twelve characters for the name of an item; the same ones in every process.

    Raises:
        TypeError: The name has no JSON form.
    """
    try:
        data = msgspec.json.encode(name, enc_hook=to_plain, order="deterministic")
    except UnicodeEncodeError:  # a lone surrogate, as file names can hold
        data = str(name).encode("utf-8", "surrogatepass")
    except (TypeError, RecursionError) as error:
        raise TypeError(
            f"track() cannot tell after a restart which {type(name).__qualname__} was done: "
            f"{error}; name them, as in checkpoint=lambda item: item.id"
        ) from None
    return urlsafe_b64encode(blake2b(data, digest_size=9).digest()).decode()


def _outer_path(run: ToolRun) -> str:
    """Return the path of a track that begins now: within the current item, or in the whole tool."""
    node = innermost_node(run.output.stages)
    while node is not None:
        if isinstance(node, Items) and node.marks is not None:
            return node.marks.inner_path
        node = node.parent
    return ""
