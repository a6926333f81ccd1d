"""Idempotency keys and handles: names that a run can be found by, besides its own stream.

A key is a stream, `key/<principal>/<name>`, whose first `Claimed` names the run. Many may claim a
key at the same moment, in any process. The journal numbers the claims, so all see the same first
one.

**A key outlives its run's output.** Results are dropped for room, keys are not
(`journal/eviction.py`): a key whose run is gone proves that the call was executed, so it is not
executed again. To keep a journal from filling up with keys, each caller has a limit
(`max_keys_each`), and so have all together (`max_keys`).
"""

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
from headway.log_lines import quiet_logger
from headway.settings import Settings
from headway.stream_names import (
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

logger = quiet_logger(__name__)

NEVER_EXECUTED = Cancelled("server", "it was not begun", never_executed=True)
"""The end of a run that was accepted and is not executed: another one has its key."""

_NEVER_EXECUTED_BEFORE_THE_FIELD = Cancelled("server", "it was not begun")
"""That end as releases before `never_executed` wrote it; journals outlive releases."""

COUNT_VALID_FOR = 10.0
"""Seconds for which a count of keys is used. New keys of this process are added to it meanwhile,
those of other processes are not."""

RECOUNT_AFTER = 1.0
"""Seconds for which it is used when it is at its limit."""

KEYS_STOP_TIMEOUT = 5.0
"""Seconds that a stop waits until the keys of runs that have ended are released."""

PAGE = 50
"""Tasks in one answer to `tasks/list`."""

MOST_LISTED = 1000
"""Runs that are looked at for one answer to `tasks/list`."""

MOST_COUNTS = 1000
"""Callers whose counts are kept in memory; of more, the oldest count is dropped."""

TOO_MANY_CODE = -32000
"""JSON-RPC code of a refusal for too many keys, as of a server that is busy."""


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
    """Digest of the call that the key was used for; empty where it is not known any more."""
    is_gone: bool = False
    """True when the journal has dropped the run's output."""


@dataclass(slots=True)
class _Count:
    """The number of keys with one prefix, and when they were counted."""

    number: int
    at: float


class RunNames:
    """The idempotency keys and handles of one journal."""

    def __init__(self, journal: Journal, settings: Settings | None = None) -> None:
        self._journal = journal
        self._settings = settings or Settings()
        self._tasks = BackgroundTasks("idempotency keys")
        self._counts: dict[str, _Count] = {}

    @property
    def number(self) -> int:
        """Number of keys, as of the last count."""
        known = self._counts.get(KEY_STREAMS)
        return 0 if known is None else known.number

    @property
    def most_of_one(self) -> int:
        """Number of keys of the caller that has most, as of the last counts."""
        counts = ((prefix, count.number) for prefix, count in self._counts.items())
        return max((number for prefix, number in counts if prefix != KEY_STREAMS), default=0)

    # What a key names

    async def find_run(self, key: str) -> NamedRun | None:
        """Return the run that a key names; None where it names none, or is no longer kept.

        Raises:
            JournalError: The journal cannot be read.
        """
        entries = await self._read_key(key)
        gone = None if _has_first_claim(entries) else NamedRun("", "", is_gone=True)
        # Claims are in the order in which the journal took them, which all processes see alike: the
        # first run that was executed has the key, however late this is asked.
        for claimed in _valid_claims(entries):
            head = await self._journal.head(claimed.stream)
            if head is None:
                gone = gone or NamedRun(claimed.stream, claimed.fingerprint, is_gone=True)
            # A run that claimed the key later and goes on has lost the race: it is being withdrawn.
            elif await self._was_executed(claimed.stream, head) and (head.ended or gone is None):
                return NamedRun(claimed.stream, claimed.fingerprint)
        return gone

    async def is_first(self, key: str, stream: str) -> bool:
        """Return whether the run in `stream` is the one to be executed for a key.

        Raises:
            JournalError: The journal cannot be read.
        """
        entries = await self._read_key(key)
        for claimed in _valid_claims(entries) if _has_first_claim(entries) else ():
            head = await self._journal.head(claimed.stream)
            if head is None or await self._was_executed(claimed.stream, head):
                return claimed.stream == stream
        return False

    async def _read_key(self, key: str) -> list[Entry] | None:
        """Return the entries of a key, [] where there is no key; None where none can be read."""
        for _ in range(2):
            try:
                return await self._journal.read_all_kept(key)
            except StreamNotFound:
                if await self._journal.head(key) is None:
                    return []
            # The key exists: it was claimed just now, or all of its entries are trimmed.
        return None

    async def _was_executed(self, stream: str, head: Head) -> bool:
        """Return whether a run was started, and not only accepted."""
        if not head.ended:
            return True
        try:
            last = await self._journal.read(stream, after=head.last - 1)
        except EntriesTrimmed:  # its end cannot be read
            return True
        return not last or not is_never_executed(last[-1].event)

    # Claiming, and letting go

    async def claim_name(self, key: str, mine: Claimed) -> NamedRun:
        """Claim a key for a durable run, and return the run that the key names.

        Raises:
            JournalError: The journal cannot be written.
        """
        try:
            # Appended without a look before: the storage numbers the claims, so of two that come at
            # once one is first everywhere.
            await self._journal.append_shared(key, mine)
        except StreamEnded:
            # A quick run has started and ended since the key was looked up.
            named = await self.find_run(key)
            if named is None:
                raise JournalUnavailable(f"{key} is over and names nothing") from None
            return named
        for count in self._counts_of(key):
            count.number += 1
        return await self.find_run(key) or NamedRun(mine.stream, mine.fingerprint)

    def withdraw_soon(self, key: str, stream: str) -> None:
        """Take a claim back, in the background, as its run is not executed after all."""
        self._tasks.start(self._post_quietly(key, Claimed(stream, is_void=True)))

    def release_with(self, run: Run, key: str) -> None:
        """Release the key when the run that it names has ended."""

        def release() -> None:
            if not run.is_released:
                self._tasks.start(self.release_name(key))

        run.on_end(release)

    async def release_name(self, key: str) -> None:
        """Release a key whose run has ended: both are kept for the same time from now on."""
        await self._post_quietly(key, Released())

    async def _post_quietly(self, key: str, event: Claimed | Released) -> None:
        try:
            await self._journal.append_shared(key, event)
        except JournalError as error:
            logger.debug("%s is not let go of: %s", key, error)

    async def sweep(self) -> None:
        """Release the keys of runs whose end was written by another process.

        Raises:
            JournalError: The journal cannot be read.
        """
        for key in await self._journal.streams(KEY_STREAMS, unfinished=True):
            try:
                await self._sweep_key(key)
            except JournalError as error:  # of one key; the others are looked at all the same
                logger.warning("%s was not looked at: %s", key, error)

    async def _sweep_key(self, key: str) -> None:
        named = await self.find_run(key)
        if named is not None:
            head = await self._journal.head(named.stream)
            if head is None or head.ended:
                await self.release_name(key)
            return
        # All claims are void, so its caller may claim it again; unless it is this old.
        last = (await self._journal.read_all_kept(key))[-1]
        if last.time < self._journal.clock.time() - self._journal.retention.ttl:
            await self._journal.append(key, [Released()], after=last.seq)

    async def stop(self) -> None:
        """Return when the keys of all ended runs are released, or after `KEYS_STOP_TIMEOUT`."""
        await self._tasks.stop(KEYS_STOP_TIMEOUT)

    # Runs that clients come back to

    async def stream_of(self, asking: Run, run_id: str) -> str:
        """Return the stream of a run by its id, where it belongs to the caller of `asking`.

        Raises:
            StreamNotFound: It is unknown, expired or somebody else's.
            ResultDropped: It was executed, and its output is no longer kept.
        """
        (place,) = (await self.streams_of(asking, [run_id])).values()
        if place is None:
            raise StreamNotFound(run_id)
        if place.is_gone:
            raise ResultDropped(run_id)
        return place.stream

    async def streams_of(self, asking: Run, run_ids: Collection[str]) -> dict[str, NamedRun | None]:
        """Return the runs with these ids, each None unless it is for the caller of `asking`.

        A run is for its owner, with a token that has the scopes of its tool. However many there
        are, it takes two round trips, and one or two more for each run that is the caller's.

        Raises:
            JournalError: The journal cannot be read.
        """
        beside = {name: sibling_run(asking.stream, name) for name in run_ids if "/" not in name}
        heads = await self._journal.head_of_each(beside.values())
        keys = {
            name: handle_stream(asking.request.principal, name)
            for name in run_ids
            if beside.get(name) not in heads
        }
        handles = await self._journal.head_of_each(keys.values())
        found: dict[str, NamedRun | None] = {}
        for name in run_ids:
            if beside.get(name) in heads:
                found[name] = NamedRun(beside[name], "")
            else:
                found[name] = await self.find_run(keys[name]) if keys[name] in handles else None
        return await self._visible_of(asking, found)

    async def _visible_of(
        self, asking: Run, found: dict[str, NamedRun | None]
    ) -> dict[str, NamedRun | None]:
        """Return the same runs, None for those whose tools the caller of `asking` may not call."""
        access, held = asking.services.access, asking.request.scopes
        kept = [named.stream for named in found.values() if named is not None and not named.is_gone]
        seen = await access.visible_of(kept, held)
        return {
            name: named if named is None or named.is_gone or named.stream in seen else None
            for name, named in found.items()
        }

    async def tasks_of(self, asking: Run, after: str | None) -> tuple[dict[str, str], str | None]:
        """Return one page of the runs that have a handle and are for the caller of `asking`.

        The oldest come first.

        Returns the streams by id, of runs that come after the run with the id `after`, and the id
        to continue after, or None at the end. At most `MOST_LISTED` runs are looked at, so a page
        may be empty though there are more.

        Raises:
            LookupError: There is no run `after`.
            JournalError: The journal cannot be read.
        """
        principal = asking.request.principal
        inboxes = await self._journal.streams(inboxes_prefix(principal))
        ids = [run_id_of(name) for name in inboxes]
        if after is not None and after not in ids:
            raise LookupError(after)
        start = 0 if after is None else ids.index(after) + 1
        some = dict(zip(ids[start:], inboxes[start : start + MOST_LISTED], strict=False))
        keys = {name: handle_stream(principal, name) for name in some}
        handles = await self._journal.head_of_each(keys.values())
        found = [name for name in some if keys[name] in handles]
        page = {name: run_beside(some[name]) for name in found[:PAGE]}
        last = found[PAGE - 1] if len(found) > PAGE else next(reversed(some), None)
        access, held = asking.services.access, asking.request.scopes
        seen = await access.visible_of(page.values(), held)
        page = {name: stream for name, stream in page.items() if stream in seen}
        return page, None if last is None or last == ids[-1] else last

    # How many there are

    async def check_room(self, principal: str) -> None:
        """Check that a caller may have one more key.

        Raises:
            ProtocolError: It has as many as it may, or all callers have (503).
            JournalError: The journal cannot be read.
        """
        settings = self._settings
        if principal != ANONYMOUS:
            mine = await self._count_keys(key_stream(principal, ""), settings.max_keys_each)
            if mine >= settings.max_keys_each:
                raise _full_error(f"{mine} of your idempotency keys and handles", "max_keys_each")
        many = await self._count_keys(KEY_STREAMS, settings.max_keys)
        if many >= settings.max_keys:
            raise _full_error(f"{many} idempotency keys and handles", "max_keys")

    async def _count_keys(self, prefix: str, most: int) -> int:
        """Return the number of keys with a prefix, from memory unless the count is too old."""
        now, known = self._journal.clock.now(), self._counts.get(prefix)
        if known is not None and now - known.at < (
            COUNT_VALID_FOR if known.number < most else RECOUNT_AFTER
        ):
            return known.number
        number = await self._journal.count_streams(prefix)
        if len(self._counts) >= MOST_COUNTS:
            del self._counts[next(iter(self._counts))]
        self._counts[prefix] = _Count(number, now)
        return number

    def _counts_of(self, key: str) -> list[_Count]:
        """Return the counts in memory that a key belongs to."""
        prefixes = (KEY_STREAMS, keys_prefix(key))
        return [self._counts[prefix] for prefix in prefixes if prefix in self._counts]


def _has_first_claim(entries: list[Entry] | None) -> bool:
    """Return whether these entries of a key begin with its first one."""
    return entries is not None and (not entries or entries[0].seq == 1)


def _valid_claims(entries: list[Entry] | None) -> list[Claimed]:
    """Return the claims that were not taken back, in order."""
    claims = [entry.event for entry in entries or () if isinstance(entry.event, Claimed)]
    void = {claimed.stream for claimed in claims if claimed.is_void}
    return [claimed for claimed in claims if claimed.stream not in void]


def _full_error(what: str, limit: str) -> ProtocolError:
    text = (
        f"{what} are kept, as many as may be ({limit}); call without a key, or wait until the "
        "oldest have expired (keep.ttl)"
    )
    return ProtocolError(TOO_MANY_CODE, text, status=503, retry_after=60, limit=limit)
