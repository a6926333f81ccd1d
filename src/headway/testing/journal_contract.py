"""The contract of journal backends. A clause is a function whose name is what it promises.

This module must not know any test framework: a clause that does not hold raises
`AssertionError`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from uuid import uuid4

from headway.errors import Conflict, EntriesTrimmed, JournalError, StreamEnded, StreamNotFound
from headway.events import (
    Accepted,
    Completed,
    Entry,
    Event,
    Part,
    Progress,
    Started,
    encode_json,
    size_of,
)
from headway.journal import Cursor, Journal
from headway.journal.journal import SWEEP_INTERVAL
from headway.rate_limits import Rate
from headway.testing.fake_clock import FakeClock, run_loop_turns

CLAUSE_TIMEOUT = 60.0
"""Real seconds until a clause that waits counts as broken."""

Clause = Callable[[Journal], Awaitable[None]]


async def check_journal(make: Callable[[], AbstractAsyncContextManager[Journal]]) -> None:
    """Return when the journals that `make` opens keep every clause of the contract.

    Each clause gets a journal of its own; they may share one storage. With a `FakeClock` and
    a small `Retention` (say 300 entries and 40 kB a stream, 200 kB in all) retention by time
    and size is checked too; otherwise those clauses pass unseen.

    Raises:
        AssertionError: The text names the clause that is broken.
    """
    for clause in CLAUSES:
        async with make() as journal:
            await check_clause(clause, journal)


async def check_clause(clause: Clause, journal: Journal) -> None:
    """Return when `journal` keeps one clause of `CLAUSES`.

    Raises:
        AssertionError: The text names the clause.
    """
    name = getattr(clause, "__name__", repr(clause)).replace("_", " ")
    try:
        async with asyncio.timeout(CLAUSE_TIMEOUT):
            await clause(journal)
    except TimeoutError as error:
        raise AssertionError(
            f"broken: {name} (still waiting after {CLAUSE_TIMEOUT:g} s)"
        ) from error
    except Exception as error:
        raise AssertionError(f"broken: {name} ({type(error).__name__}: {error})") from error


def _expect_raises(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _new_stream(prefix: str = "check:") -> str:
    return f"{prefix}{uuid4().hex}"


def _some_steps(count: int, *, start: int = 0) -> list[Event]:
    return [Progress(float(number)) for number in range(start + 1, start + count + 1)]


_END = Completed(encode_json({"done": True}))


async def _filled_stream(journal: Journal, count: int, *, end: bool = False) -> str:
    """Return a new stream of `count` entries, the last one terminal where `end`."""
    stream = _new_stream()
    events: list[Event] = [Accepted("check"), *_some_steps(count - 1 - end)]
    await journal.append(stream, [*events, _END] if end else events, after=0)
    return stream


async def _read_all(journal: Journal, stream: str, *, after: int = 0) -> list[Entry]:
    return [entry async for entry in journal.follow(stream, after=after)]


def _expect_numbers(entries: list[Entry], first: int, last: int) -> None:
    found, wanted = [entry.seq for entry in entries], list(range(first, last + 1))
    _expect_raises(found == wanted, f"wanted the entries {first} to {last}, got {found[:20]}")


async def _expect_refused(error: type[JournalError], doing: Awaitable[object]) -> JournalError:
    try:
        await doing
    except error as refused:
        return refused
    raise AssertionError(f"nothing was refused, wanted {error.__name__}")


@contextlib.asynccontextmanager
async def _following_task(
    journal: Journal, stream: str, *afters: int
) -> AsyncGenerator[list[list[int]]]:
    """Follow from several places at once; on leaving, all have come to the end."""
    seen: list[list[int]] = [[] for _ in afters]

    async def follow(after: int, into: list[int]) -> None:
        async for entry in journal.follow(stream, after=after):
            into.append(entry.seq)  # noqa: PERF401 - seen while it goes on

    async with asyncio.TaskGroup() as group:
        for after, into in zip(afters, seen, strict=True):
            group.create_task(follow(after, into))
        await run_loop_turns()
        yield seen
    # The group has waited for all of them.


async def entries_are_numbered_without_gaps_in_the_order_of_their_appends(
    journal: Journal,
) -> None:
    stream = _new_stream()
    events: list[Event] = [Accepted("check", "a"), Started(), Part(encode_json([1, "\u2028"]))]
    _expect_raises(
        await journal.append(stream, events[:2], after=0) == 2, "append returned another seq"
    )
    _expect_raises(
        await journal.append(stream, events[2:], after=2) == 3, "append returned another seq"
    )
    entries = await journal.read(stream)
    _expect_numbers(entries, 1, 3)
    _expect_raises(
        [entry.event for entry in entries] == events, "the events read are not those written"
    )
    _expect_raises(entries[0].time <= entries[-1].time, "times run backwards")
    _expect_raises(entries == await journal.read(stream), "a second read gives something else")


async def an_append_behind_any_other_entry_than_the_last_is_refused(journal: Journal) -> None:
    stream = await _filled_stream(journal, 3)
    for after in (0, 2, 4):
        await _expect_refused(Conflict, journal.append(stream, _some_steps(1), after=after))
    await _expect_refused(Conflict, journal.append(_new_stream(), _some_steps(1), after=1))
    _expect_numbers(await journal.read(stream), 1, 3)
    _expect_raises(
        await journal.append(stream, _some_steps(1), after=3) == 4, "a right append was refused"
    )


async def all_who_post_at_once_see_the_same_entry_as_the_first(journal: Journal) -> None:
    async def claim(stream: str, mine: Event) -> Event:
        await journal.append_shared(stream, mine)
        return (await journal.read_all_kept(stream))[0].event

    for _ in range(20):
        stream = _new_stream()
        first = await asyncio.gather(*(claim(stream, step) for step in _some_steps(5)))
        _expect_raises(len({repr(event) for event in first}) == 1, f"first was {first}")
        _expect_numbers(await journal.read_all_kept(stream), 1, 5)


async def a_refused_append_begins_no_stream(journal: Journal) -> None:
    stream = _new_stream()
    await _expect_refused(Conflict, journal.append(stream, _some_steps(1), after=5))
    _expect_raises(await journal.head(stream) is None, "it has a head")
    _expect_raises(await journal.streams(stream) == [], "it is listed")
    await _expect_refused(StreamNotFound, journal.read(stream))


async def nothing_follows_a_terminal_entry(journal: Journal) -> None:
    stream = await _filled_stream(journal, 3, end=True)
    await _expect_refused(StreamEnded, journal.append(stream, _some_steps(1), after=3))
    await _expect_refused(JournalError, journal.append(stream, _some_steps(1), after=0))
    head = await journal.head(stream)
    _expect_raises(head is not None and head.ended and head.last == 3, f"its head is {head}")
    _expect_numbers(await _read_all(journal, stream), 1, 3)


async def a_cursor_opened_before_the_first_entry_sees_all_of_them_once(journal: Journal) -> None:
    stream = _new_stream()
    await journal.attach_stream(stream)
    async with _following_task(journal, stream, 0, 0) as seen:
        for after in range(5):
            journal.append_nowait(stream, Progress(after + 1.0), after=after)
            await run_loop_turns()
        journal.append_nowait(stream, _END, after=5)
    _expect_raises(seen == [[1, 2, 3, 4, 5, 6]] * 2, f"they saw {seen}")


async def a_cursor_opened_late_sees_all_entries_once(journal: Journal) -> None:
    last = min(600, journal.retention.stream_entries)
    stream = await _filled_stream(journal, last, end=True)
    _expect_numbers(await _read_all(journal, stream), 1, last)
    _expect_numbers(await _read_all(journal, stream, after=last - 2), last - 1, last)
    _expect_numbers(await _read_all(journal, stream, after=last), last + 1, last)


async def cursors_opened_at_any_moment_see_all_entries_once(journal: Journal) -> None:
    stream, last = _new_stream(), 0
    cursors = list[asyncio.Task[list[Entry]]]()
    async with asyncio.TaskGroup() as group:
        await journal.attach_stream(stream)
        for _ in range(40):
            cursors.append(group.create_task(_read_all(journal, stream, after=last // 2)))
            for event in _some_steps(3, start=last):
                last = journal.append_nowait(stream, event, after=last)
            if len(cursors) % 4 == 0:
                await journal.wait_until_stored(stream)
            await asyncio.sleep(0)
        journal.append_nowait(stream, _END, after=last)
    for number, cursor in enumerate(cursors):
        _expect_numbers(cursor.result(), number * 3 // 2 + 1, last + 1)


async def a_page_is_cut_to_its_limit(journal: Journal) -> None:
    stream = await _filled_stream(journal, 20)
    _expect_numbers(await journal.read(stream, after=3, limit=5), 4, 8)
    _expect_numbers(await journal.read(stream, after=18, limit=5), 19, 20)
    _expect_numbers(await journal.read(stream, after=20, limit=5), 21, 20)


async def a_nudged_cursor_returns_empty_handed_and_loses_nothing(journal: Journal) -> None:
    stream = await _filled_stream(journal, 1)
    cursor: Cursor = journal.open_cursor(stream)
    _expect_numbers(await cursor.next(), 1, 1)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(cursor.next())
        await run_loop_turns()
        cursor.nudge()
    _expect_raises(waiting.result() == [] and not cursor.done, "the wait was not ended")
    cursor.nudge()
    _expect_raises(await cursor.next() == [], "a nudge before the wait was lost")
    await journal.append(stream, [_END], after=1)
    _expect_numbers(await cursor.next(), 2, 2)
    _expect_raises(cursor.done, "it is not done after the terminal entry")


async def an_unknown_stream_is_not_found(journal: Journal) -> None:
    stream = _new_stream()
    _expect_raises(await journal.head(stream) is None, "it has a head")
    await _expect_refused(StreamNotFound, journal.read(stream))
    await _expect_refused(StreamNotFound, _read_all(journal, stream))


async def a_dropped_stream_is_gone_and_can_begin_again(journal: Journal) -> None:
    stream = await _filled_stream(journal, 5)
    async with _following_task(journal, stream, 0) as seen:
        await journal.drop(stream)
    _expect_raises(seen == [[1, 2, 3, 4, 5]], f"the cursor on it saw {seen}")
    _expect_raises(await journal.streams(stream) == [], "it is still listed")
    await _expect_refused(StreamNotFound, journal.read(stream))
    await journal.drop(stream)
    await journal.append(stream, [Started(), _END], after=0)
    _expect_numbers(await _read_all(journal, stream), 1, 2)


async def an_unrecorded_stream_is_read_like_any_other(journal: Journal) -> None:
    stream = _new_stream()
    await journal.append(stream, [Started()], after=0, recorded=False)
    async with _following_task(journal, stream, 0) as seen:
        journal.append_nowait(stream, _END, after=1)
    _expect_raises(seen == [[1, 2]], f"a cursor saw {seen}")
    await _expect_refused(
        StreamEnded, journal.append(stream, _some_steps(1), after=2, recorded=False)
    )
    _expect_raises(await journal.streams(stream) == [stream], "it is not listed")


async def streams_are_listed_by_prefix_with_the_oldest_first(journal: Journal) -> None:
    prefix = _new_stream("check%_*:")
    for name in ("b", "a", "c"):
        await journal.append(f"{prefix}{name}", [Started()], after=0)
    await journal.append(_new_stream("check%_x:"), [Started()], after=0)
    await journal.append(f"{prefix}b", [_END], after=1)
    found = await journal.streams(prefix)
    _expect_raises(found == [f"{prefix}{name}" for name in "bac"], f"got {found}")
    _expect_raises(
        await journal.streams(f"{prefix}a") == [f"{prefix}a"], "one name is a prefix too"
    )


async def what_goes_on_is_counted_by_prefix_whoever_began_it(journal: Journal) -> None:
    prefix, other = _new_stream("check%_*:"), _new_stream("check%_*:")
    names = [f"{prefix}{number}" for number in range(4)]

    async def count(most: int, *here: str, part: Callable[[str], str] = str) -> int | None:
        return await journal.global_count.count_unfinished(prefix, lambda: here, most, part=part)

    if not journal.is_durable:
        _expect_raises(await count(1) is None, "a journal that nobody shares counts")
        return
    for name in (*names, f"{prefix[:-1]}", other):
        await journal.append(name, [Started()], after=0)
    _expect_raises(await count(4) == 4, "not all are counted")
    _expect_raises(
        await count(4, names[0], "new") == 5, "what only this process knows is not counted"
    )
    _expect_raises(await count(4, part=lambda _: "all") == 1, "what is one is counted twice")
    _expect_raises((await count(9, names[0]) or 0) >= 4, "fewer than that are told as too few")
    await journal.append(names[0], [_END], after=1)
    await journal.drop(names[1])
    _expect_raises(await count(1) == 2, "what has ended is counted")


async def a_rate_lets_in_all_at_once_and_no_more(journal: Journal) -> None:
    rate, other = Rate(3, 3 * 3600.0), Rate(1, 3600.0)
    name = _new_stream()
    waits = await asyncio.gather(*(journal.rates.take(name, rate) for _ in range(4)))
    _expect_raises(sorted(waits)[:3] == [0, 0, 0], f"not all are let in: {waits}")
    _expect_raises(0 < max(waits) <= 3600, f"who is one too many waits {max(waits):g} s")
    _expect_raises(await journal.rates.take(name, rate) > 0, "who was refused is let in")
    _expect_raises(await journal.rates.take(_new_stream(), other) == 0, "others are refused")


async def many_streams_are_asked_for_at_once(journal: Journal) -> None:
    going_on, ended = await _filled_stream(journal, 3), await _filled_stream(journal, 4, end=True)
    unknown = [_new_stream() for _ in range(1000)]
    found = await journal.head_of_each([*unknown, going_on, ended])
    heads = {name: await journal.head(name) for name in (going_on, ended)}
    _expect_raises(found == heads, f"heads are {heads}, together {found}")
    _expect_raises(
        await journal.head_of_each([]) == {}, "something is found where nothing was asked for"
    )


async def all_that_begin_alike_are_counted_ended_or_not(journal: Journal) -> None:
    prefix = _new_stream("check%_*:")
    for name, *events in (("a", Started()), ("b", Started(), _END), ("c", Started())):
        await journal.append(f"{prefix}{name}", events, after=0)
    await journal.append(f"{prefix[:-1]}", [Started()], after=0)
    _expect_raises(await journal.count_streams(prefix) == 3, "not all are counted, or others")
    await journal.drop(f"{prefix}a")
    _expect_raises(await journal.count_streams(prefix) == 2, "what was dropped is counted")


async def a_read_below_the_oldest_entry_kept_tells_what_is_left(journal: Journal) -> None:
    limit = journal.retention.stream_entries
    stream, last = await _filled_stream(journal, 1), 1
    while last < 3 * limit:
        last = await journal.append(stream, _some_steps(max(1, limit // 8), start=last), after=last)
    await _wait_for_sweep(journal)
    error = await _expect_refused(EntriesTrimmed, journal.read(stream))
    first = getattr(error, "first", 0)
    await _expect_refused(EntriesTrimmed, _read_all(journal, stream, after=first - 2))
    await journal.append(stream, [_END], after=last)
    kept = await _read_all(journal, stream, after=first - 1)
    _expect_numbers(kept, first, last + 1)
    _expect_raises(limit // 2 < len(kept) <= limit * 1.5 + 1, f"{len(kept)} are kept of {limit}")


async def a_stream_keeps_its_newest_bytes(journal: Journal) -> None:
    limit = journal.retention.stream_bytes
    piece = Part(encode_json("x" * (limit // 32)))
    stream, last = _new_stream(), 0
    for _ in range(100):
        last = await journal.append(stream, [piece], after=last)
    await _wait_for_sweep(journal)
    error = await _expect_refused(EntriesTrimmed, journal.read(stream))
    kept = await journal.read(stream, after=getattr(error, "first", 0) - 1)
    size = sum(size_of(entry.event) for entry in kept)
    _expect_raises(kept[-1].seq == last, "the newest entry is gone")
    _expect_raises(limit // 2 < size <= limit * 1.5, f"{size} bytes are kept of {limit}")


async def an_ended_stream_is_kept_for_its_time_and_no_longer(journal: Journal) -> None:
    if not isinstance(journal.clock, FakeClock):
        return  # it would take an hour
    stream, alive = await _filled_stream(journal, 2, end=True), await _filled_stream(journal, 2)
    await journal.clock.advance(journal.retention.ttl / 2)
    await _wait_for_sweep(journal)
    if journal.retention.ttl > 5 * SWEEP_INTERVAL:
        _expect_numbers(await _read_all(journal, stream), 1, 2)
    await journal.clock.advance(journal.retention.ttl / 2)
    await _sweep_until(journal, partial(_is_gone, journal, stream))
    await _expect_refused(StreamNotFound, journal.read(stream))
    _expect_numbers(await journal.read(alive), 1, 2)
    await journal.append(alive, [_END], after=2)


async def over_its_size_a_journal_drops_what_ended_first(journal: Journal) -> None:
    limit = journal.retention.max_bytes
    if limit > 4 * 1024 * 1024:
        return  # it would take long
    alive, piece = await _filled_stream(journal, 2), Part(encode_json("x" * (limit // 40)))
    ended = [_new_stream() for _ in range(80)]
    for stream in ended:
        await journal.append(stream, [piece, _END], after=0)
    await _sweep_until(journal, partial(_is_gone, journal, ended[30]))
    known = await journal.streams()
    kept = [stream for stream in ended if stream in known]
    _expect_raises(kept == ended[-len(kept) :], "an older stream was kept and a newer one dropped")
    _expect_raises(10 < len(kept) <= 42, f"{len(kept)} of 80 streams are kept where 40 fit")
    _expect_raises(alive in known, "a stream that goes on was dropped")
    await journal.append(alive, [_END], after=2)


async def over_its_size_it_drops_what_the_owner_has_that_holds_most(journal: Journal) -> None:
    limit = journal.retention.max_bytes
    if limit > 4 * 1024 * 1024:
        return  # it would take long
    small, piece = Part(encode_json("x" * (limit // 200))), Part(encode_json("x" * (limit // 40)))
    few, many = uuid4().hex, uuid4().hex
    # Streams of three kinds, with a session and without: their names begin with their owner.
    kept = [
        _new_stream(f"check/{few}/"),
        _new_stream(f"check/{few}.a/"),
        _new_stream(f"other/{few}.b/"),
    ]
    for stream in kept:
        await journal.append(stream, [small, _END], after=0)
    large = [_new_stream(f"check/{many}/") for _ in range(80)]
    for stream in large:
        await journal.append(stream, [piece, _END], after=0)
    await _sweep_until(journal, partial(_is_gone, journal, large[30]))
    known = await journal.streams()
    _expect_raises(
        all(stream in known for stream in kept), "what ended first was dropped, whoever's"
    )
    left = sum(stream.startswith(f"check/{many}/") for stream in known)
    _expect_raises(10 < left <= 42, f"{left} of 80 streams are kept where 40 fit")


async def a_key_is_kept_for_its_time_whatever_has_to_go(journal: Journal) -> None:
    limit, owner = journal.retention.max_bytes, uuid4().hex
    if limit > 4 * 1024 * 1024:
        return  # it would take long
    keys = [_new_stream(f"key/{owner}/") for _ in range(5)]
    for stream in keys:
        await journal.append(stream, [Started(), _END], after=0)
    piece = Part(encode_json("x" * (limit // 40)))
    for _ in range(80):
        await journal.append(_new_stream(f"check/{owner}/"), [piece, _END], after=0)
    await _wait_for_sweep(journal)
    _expect_raises(await journal.count_streams(f"key/{owner}/") == 5, "keys were dropped for room")
    for stream in keys:
        _expect_numbers(await _read_all(journal, stream), 1, 2)
    if isinstance(journal.clock, FakeClock):
        await journal.clock.advance(journal.retention.ttl)
        await _wait_for_sweep(journal)
        for stream in keys:
            await _sweep_until(journal, partial(_is_gone, journal, stream))
        _expect_raises(not await journal.count_streams(f"key/{owner}/"), "keys are counted on")


async def _sweep_until(journal: Journal, is_tidy: Callable[[], Awaitable[bool]]) -> None:
    """Let the journal tidy up until `is_tidy`: a storage that is busy may begin late.

    Where its buckets are on several nodes, each tidies up by itself.
    """
    await _wait_for_sweep(journal)
    while isinstance(journal.clock, FakeClock) and not await is_tidy():
        await _wait_for_sweep(journal)


async def _is_gone(journal: Journal, stream: str) -> bool:
    return stream not in await journal.streams(stream)


async def _wait_for_sweep(journal: Journal) -> None:
    """Let the journal tidy up, where its clock can be turned, and wait until it has."""
    if isinstance(journal.clock, FakeClock):
        await journal.clock.advance(2 * SWEEP_INTERVAL, step=SWEEP_INTERVAL / 4)
    # A storage does one thing after the other: when this append is stored, it has tidied up.
    await journal.append(_new_stream("sweep:"), [_END], after=0)


CLAUSES: tuple[Clause, ...] = (
    entries_are_numbered_without_gaps_in_the_order_of_their_appends,
    an_append_behind_any_other_entry_than_the_last_is_refused,
    a_refused_append_begins_no_stream,
    all_who_post_at_once_see_the_same_entry_as_the_first,
    nothing_follows_a_terminal_entry,
    a_cursor_opened_before_the_first_entry_sees_all_of_them_once,
    a_cursor_opened_late_sees_all_entries_once,
    cursors_opened_at_any_moment_see_all_entries_once,
    a_page_is_cut_to_its_limit,
    a_nudged_cursor_returns_empty_handed_and_loses_nothing,
    an_unknown_stream_is_not_found,
    a_dropped_stream_is_gone_and_can_begin_again,
    an_unrecorded_stream_is_read_like_any_other,
    streams_are_listed_by_prefix_with_the_oldest_first,
    what_goes_on_is_counted_by_prefix_whoever_began_it,
    a_rate_lets_in_all_at_once_and_no_more,
    many_streams_are_asked_for_at_once,
    all_that_begin_alike_are_counted_ended_or_not,
    a_read_below_the_oldest_entry_kept_tells_what_is_left,
    a_stream_keeps_its_newest_bytes,
    an_ended_stream_is_kept_for_its_time_and_no_longer,
    over_its_size_a_journal_drops_what_ended_first,
    over_its_size_it_drops_what_the_owner_has_that_holds_most,
    a_key_is_kept_for_its_time_whatever_has_to_go,
)
"""The contract, clause by clause, to parametrize tests with."""
