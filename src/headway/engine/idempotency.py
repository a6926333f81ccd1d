"""Keys: what a run can be found by besides the stream it is in.

A key is a stream of its own, `key/<principal>/<name>`, whose first `Claimed` names the run. Many
may claim a key at the same moment, in any process: the journal has numbered them, so all see the
same one as the first.

**A key outlives what its run said.** Results are dropped for room, keys are not (`journal/shares`):
a key whose run is gone says that it was executed, and nothing executes it again. So that they do
not fill a journal, a caller has only so many (`max_keys_each`), and all together (`max_keys`).
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from headway.background import BackgroundTasks
from headway.engine.run.run import Run
from headway.errors import (
    EntriesTrimmed,
    JournalError,
    JournalUnavailable,
    ProtocolError,
    ResultDropped,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Cancelled, Claimed, Entry, Event, Released
from headway.journal import Head, Journal
from headway.settings import Settings
from headway.streams import (
    ANONYMOUS,
    KEY_STREAMS,
    handle_stream,
    inboxes_prefix,
    key_stream,
    keys_prefix,
    run_beside,
    run_id_of,
    sibling_run,
)

logger = logging.getLogger(__name__)

NEVER_EXECUTED = Cancelled("server", "it was not begun", never_executed=True)
"""The end of a run that was accepted and is not executed: another one has its key."""

_NEVER_EXECUTED_BEFORE_THE_FIELD = Cancelled("server", "it was not begun")
"""How that end was written before `never_executed` was there; journals are kept, so it is read."""

COUNT_VALID_FOR = 10.0
"""Seconds for which a count of keys is believed. What this process adds meanwhile is added to it;
other processes may add some more."""

RECOUNT_AFTER = 1.0
"""Seconds between two counts of one that is at its limit."""

KEYS_STOP_TIMEOUT = 5.0
"""Seconds that a stop waits until the keys of runs that have ended are released."""

PAGE = 50
"""Tasks in one answer to `tasks/list`."""

MOST_LISTED = 1000
"""Runs that are looked at for one answer."""

MOST_COUNTS = 1000
"""Callers whose keys are counted; of more the oldest counts are taken anew."""

TOO_MANY_CODE = -32000
"""JSON-RPC code of a refusal for want of room, as of a server that is busy."""


def is_never_executed(end: Event) -> bool:
    """Return whether a run that ended so was accepted and never executed."""
    return isinstance(end, Cancelled) and (
        end.never_executed or end == _NEVER_EXECUTED_BEFORE_THE_FIELD
    )


@dataclass(frozen=True, slots=True)
class NamedRun:
    """The run that a key names."""

    stream: str
    fingerprint: str
    """What was asked with the key; empty where that is not known any more."""
    is_gone: bool = False
    """Whether the journal has dropped what the run said."""


@dataclass(slots=True)
class _Count:
    """How many keys begin alike, and when they were counted."""

    number: int
    at: float


class RunNames:
    """The keys of one journal."""

    def __init__(self, journal: Journal, settings: Settings | None = None) -> None:
        self._journal = journal
        self._settings = settings or Settings()
        self._tasks = BackgroundTasks("idempotency keys")
        self._counts: dict[str, _Count] = {}

    @property
    def number(self) -> int:
        """How many keys there are, as far as that was looked at."""
        known = self._counts.get(KEY_STREAMS)
        return 0 if known is None else known.number

    @property
    def most_of_one(self) -> int:
        """How many the caller has that has most, likewise."""
        counts = ((prefix, count.number) for prefix, count in self._counts.items())
        return max((number for prefix, number in counts if prefix != KEY_STREAMS), default=0)

    # What a key names

    async def find_run(self, key: str) -> NamedRun | None:
        """The run that a key names; None where it names none, or is no longer kept.

        Raises:
            JournalError: The journal cannot be read.
        """
        entries = await self._entries(key)
        gone = None if _is_whole(entries) else NamedRun("", "", is_gone=True)
        for claimed in _standing(entries):
            head = await self._journal.head(claimed.stream)
            if head is None:
                gone = gone or NamedRun(claimed.stream, claimed.fingerprint, is_gone=True)
            # One that goes on behind one that is gone lost the race, and is about to be withdrawn.
            elif await self._was_begun(claimed.stream, head) and (head.ended or gone is None):
                return NamedRun(claimed.stream, claimed.fingerprint)
        return gone

    async def is_first(self, key: str, stream: str) -> bool:
        """Whether the run in `stream` is the one to be executed for a key.

        Raises:
            JournalError: The journal cannot be read.
        """
        entries = await self._entries(key)
        for claimed in _standing(entries) if _is_whole(entries) else ():
            head = await self._journal.head(claimed.stream)
            if head is None or await self._was_begun(claimed.stream, head):
                return claimed.stream == stream
        return False

    async def _entries(self, key: str) -> list[Entry] | None:
        """What can be read of a key, empty where there is none; None: it is there, and nothing."""
        for _ in range(2):
            try:
                return await self._journal.read_all_kept(key)
            except StreamNotFound:
                if await self._journal.head(key) is None:
                    return []
            # It is there after all: claimed in this moment, or with nothing in it that can be read.
        return None

    async def _was_begun(self, stream: str, head: Head) -> bool:
        """Whether a run was executed, and not only a place made for it."""
        if not head.ended:
            return True
        try:
            last = await self._journal.read(stream, after=head.last - 1)
        except EntriesTrimmed:  # its end cannot be read
            return True
        return not last or not is_never_executed(last[-1].event)

    # Claiming, and letting go

    async def claim_name(self, key: str, mine: Claimed) -> NamedRun:
        """Have the key name a run that is durable, unless it names one; returns what it names.

        Raises:
            JournalError: The journal cannot be written.
        """
        try:
            await self._journal.post(key, mine)
        except StreamEnded:
            # A run that was quick has begun and ended since the key was looked for.
            named = await self.find_run(key)
            if named is None:
                raise JournalUnavailable(f"{key} is over and names nothing") from None
            return named
        for count in self._counts_of(key):
            count.number += 1
        return await self.find_run(key) or NamedRun(mine.stream, mine.fingerprint)

    def withdraw_soon(self, key: str, stream: str) -> None:
        """Take a claim back whose run is not begun after all."""
        self._tasks.start(self._post(key, Claimed(stream, is_void=True)))

    def release_with(self, run: Run, key: str) -> None:
        """Let go of the key when the run it names has ended."""

        def release() -> None:
            if not run.is_released:
                self._tasks.start(self.release_name(key))

        run.on_end(release)

    async def release_name(self, key: str) -> None:
        """Let go of a key whose run has ended: both are kept for the same time from now on."""
        await self._post(key, Released())

    async def _post(self, key: str, event: Claimed | Released) -> None:
        try:
            await self._journal.post(key, event)
        except JournalError as error:
            logger.debug("%s is not let go of: %s", key, error)

    async def sweep(self) -> None:
        """Let go of the keys of runs that have ended without their process.

        Raises:
            JournalError: The journal cannot be read.
        """
        for key in await self._journal.streams(KEY_STREAMS, unfinished=True):
            try:
                await self._sweep(key)
            except JournalError as error:  # of one key; the others are looked at all the same
                logger.warning("%s was not looked at: %s", key, error)

    async def _sweep(self, key: str) -> None:
        named = await self.find_run(key)
        if named is not None:
            head = await self._journal.head(named.stream)
            if head is None or head.ended:
                await self.release_name(key)
            return
        # Its claims are void, and its caller may claim it again; not one that is as old as this.
        last = (await self._journal.read_all_kept(key))[-1]
        if last.time < self._journal.clock.time() - self._journal.retention.ttl:
            await self._journal.append(key, [Released()], after=last.seq)

    async def stop(self) -> None:
        """Return when the keys of all runs that have ended are let go of."""
        await self._tasks.stop(KEYS_STOP_TIMEOUT)

    # Runs that clients come back to

    async def stream_of(self, asking: Run, run_id: str) -> str:
        """The stream of the run with this id, where it is the caller's who is asking.

        Raises:
            StreamNotFound: It is unknown, expired or somebody else's.
            ResultDropped: It was executed, and what it said is no longer kept.
        """
        (place,) = (await self.streams_of(asking, [run_id])).values()
        if place is None:
            raise StreamNotFound(run_id)
        if place.is_gone:
            raise ResultDropped(run_id)
        return place.stream

    async def streams_of(self, asking: Run, run_ids: Collection[str]) -> dict[str, NamedRun | None]:
        """The runs with these ids, each where it is the caller's who is asking; else None.

        However many they are, they are looked up in two steps, and then only those one by one that
        the caller has a handle to.

        Raises:
            JournalError: The journal cannot be read.
        """
        beside = {name: sibling_run(asking.stream, name) for name in run_ids if "/" not in name}
        heads = await self._journal.heads(beside.values())
        keys = {
            name: handle_stream(asking.principal, name)
            for name in run_ids
            if beside.get(name) not in heads
        }
        handles = await self._journal.heads(keys.values())
        found: dict[str, NamedRun | None] = {}
        for name in run_ids:
            if beside.get(name) in heads:
                found[name] = NamedRun(beside[name], "")
            else:
                found[name] = await self.find_run(keys[name]) if keys[name] in handles else None
        return found

    async def tasks_of(
        self, principal: str, after: str | None
    ) -> tuple[dict[str, str], str | None]:
        """Some runs of a principal that have a handle, oldest first: their ids and streams.

        Those behind the run with the id `after`, and the id to go on behind, if there may be more.
        At most `LISTED` runs are looked at for it, of which most may have none.

        Raises:
            LookupError: There is no run `after`.
            JournalError: The journal cannot be read.
        """
        inboxes = await self._journal.streams(inboxes_prefix(principal))
        ids = [run_id_of(name) for name in inboxes]
        if after is not None and after not in ids:
            raise LookupError(after)
        start = 0 if after is None else ids.index(after) + 1
        some = dict(zip(ids[start:], inboxes[start : start + MOST_LISTED], strict=False))
        keys = {name: handle_stream(principal, name) for name in some}
        handles = await self._journal.heads(keys.values())
        found = [name for name in some if keys[name] in handles]
        page = {name: run_beside(some[name]) for name in found[:PAGE]}
        last = found[PAGE - 1] if len(found) > PAGE else next(reversed(some), None)
        return page, None if last is None or last == ids[-1] else last

    # How many there are

    async def check_room(self, principal: str) -> None:
        """See that a caller may have one more key.

        Raises:
            ProtocolError: It has as many as it may, or all callers have (503).
            JournalError: The journal cannot be read.
        """
        settings = self._settings
        if principal != ANONYMOUS:
            mine = await self._number(key_stream(principal, ""), settings.max_keys_each)
            if mine >= settings.max_keys_each:
                raise _full(f"{mine} of your idempotency keys and handles", "max_keys_each")
        many = await self._number(KEY_STREAMS, settings.max_keys)
        if many >= settings.max_keys:
            raise _full(f"{many} idempotency keys and handles", "max_keys")

    async def _number(self, prefix: str, most: int) -> int:
        """How many keys begin with this; counted now and then, and when it is about to matter."""
        now, known = self._journal.clock.now(), self._counts.get(prefix)
        if known is not None and now - known.at < (
            COUNT_VALID_FOR if known.number < most else RECOUNT_AFTER
        ):
            return known.number
        number = await self._journal.count(prefix)
        if len(self._counts) >= MOST_COUNTS:
            del self._counts[next(iter(self._counts))]
        self._counts[prefix] = _Count(number, now)
        return number

    def _counts_of(self, key: str) -> list[_Count]:
        """The counts that a key is in, of those that are known."""
        prefixes = (KEY_STREAMS, keys_prefix(key))
        return [self._counts[prefix] for prefix in prefixes if prefix in self._counts]


def _is_whole(entries: list[Entry] | None) -> bool:
    """Whether the first claim of all is among what can be read of a key."""
    return entries is not None and (not entries or entries[0].seq == 1)


def _standing(entries: list[Entry] | None) -> list[Claimed]:
    """The claims that were not taken back, in order."""
    claims = [entry.event for entry in entries or () if isinstance(entry.event, Claimed)]
    void = {claimed.stream for claimed in claims if claimed.is_void}
    return [claimed for claimed in claims if claimed.stream not in void]


def _full(what: str, limit: str) -> ProtocolError:
    text = (
        f"{what} are kept, as many as may be ({limit}); call without a key, or wait until the "
        "oldest have expired (keep.ttl)"
    )
    return ProtocolError(TOO_MANY_CODE, text, status=503, retry_after=60, limit=limit)
