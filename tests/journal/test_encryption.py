"""An encrypted journal: who reads it, who changes it, and how keys come and go."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.fleet import journal as journal
from tests.kit.keys import keyed_call
from tests.kit.peers import connect, served
from tests.kit.poison import FUTURE, GARBAGE, poison
from tests.kit.tools import GatedTools

from headway import Encryption, Settings
from headway.encryption import new_key, shown_id
from headway.engine.recovery.restart_state import load_restart
from headway.engine.recovery.take_over import take_over
from headway.errors import EntriesUnreadable, SetupError, StreamLocked
from headway.events import (
    Accepted,
    Alive,
    Completed,
    Entry,
    Event,
    Log,
    Part,
    Progress,
    RequestStored,
    Started,
    TakenByWorker,
    encode_json,
)
from headway.journal import Head, Journal, open_journal
from headway.journal.chunk_cipher import ChunkCipher
from headway.settings import Retention
from headway.stream_names import (
    checkpoint_stream,
    new_call_id,
    new_process_id,
    process_stream,
    run_stream,
)
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

OLD, NEW, OTHER = new_key(), new_key(), new_key()
END = Completed(encode_json({"content": [{"type": "text", "text": "done"}]}))
SAID: list[Event] = [Accepted("check"), Started(), Part(encode_json("a part")), END]


def opened(url: str, *keys: str, plain: Any = "refuse") -> Journal:
    encryption = Encryption(keys, plain) if keys else None
    return open_journal(url, encryption=encryption)


async def write(url: str, stream: str, *keys: str, plain: Any = "refuse") -> None:
    """Write a whole stream, each entry in a chunk of its own."""
    async with opened(url, *keys, plain=plain) as writer:
        for after, event in enumerate(SAID):
            await writer.append(stream, [event], after=after)


async def write_many(url: str, *keys: str) -> None:
    """Write so many streams that a look at a few chunks finds some of them."""
    async with opened(url, *keys, plain="read") as writer:
        for number in range(30):
            await writer.append(f"many/{number}", SAID, after=0)


async def events(journal: Journal, stream: str) -> list[Event]:
    return [entry.event for entry in await journal.read(stream)]


# Keys that come and go


async def test_what_was_written_with_an_old_key_is_read_as_long_as_it_is_there(
    journal: str,
) -> None:
    await write(journal, "a/old", OLD)
    await write(journal, "a/same", OLD, NEW)  # the new one is everywhere, and encrypts nothing yet
    await write(journal, "a/new", NEW, OLD)
    await write_many(journal, NEW, OLD)
    async with opened(journal, NEW, OLD) as reader:
        for stream in ("a/old", "a/same", "a/new"):
            assert await events(reader, stream) == SAID
    async with opened(journal, NEW) as reader:
        assert await events(reader, "a/new") == SAID
        for stream in ("a/old", "a/same"):
            with pytest.raises(StreamLocked, match=shown_id(OLD)):
                await reader.read(stream)


async def test_a_stream_that_goes_on_under_a_new_key_is_one_stream(journal: str) -> None:
    async with opened(journal, OLD) as writer:
        await writer.append("a/b", SAID[:2], after=0)
    async with opened(journal, NEW, OLD) as writer:
        await writer.append("a/b", SAID[2:], after=2)
        assert await events(writer, "a/b") == SAID
        assert await events(writer, "a/b") == SAID


async def test_entries_before_those_of_a_missing_key_are_read(journal: str) -> None:
    async with opened(journal, OLD) as writer:
        await writer.append("a/b", SAID[:2], after=0)
    async with opened(journal, NEW, OLD) as writer:
        await writer.append("a/b", SAID[2:], after=2)
    await write_many(journal, OLD, NEW)
    async with opened(journal, OLD) as reader:
        assert await events(reader, "a/b") == SAID[:2]
        with pytest.raises(StreamLocked, match=shown_id(NEW)):
            await reader.read("a/b", after=2)


@pytest.mark.parametrize("keys", [(), (OTHER,)], ids=["no key", "a wrong key"])
async def test_without_the_key_nothing_is_opened_and_nothing_is_changed(
    journal: str, keys: tuple[str, ...]
) -> None:
    await write(journal, "a/b", OLD)
    with pytest.raises(SetupError, match=f"encrypted with the key {shown_id(OLD)}, and this"):
        await opened(journal, *keys).open()
    async with opened(journal, OLD) as reader:
        assert await events(reader, "a/b") == SAID
        assert await reader.head("a/b") == Head(1, len(SAID), ended=True)


async def test_a_key_that_is_missing_for_a_part_of_a_journal_is_named_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    await write(url, "a/old", OLD)
    await write(url, "a/new", NEW, OLD)
    async with opened(url, NEW) as reader:
        assert await reader.streams("a/") == ["a/old", "a/new"]
        assert f"encrypted with the key {shown_id(OLD)}" in caplog.text


async def test_what_cannot_be_read_is_neither_trimmed_nor_dropped(journal: str) -> None:
    clock = FakeClock()
    await write(journal, "a/old", OLD)
    await write_many(journal, NEW, OLD)
    async with open_journal(journal, clock=clock, encryption=Encryption((NEW,))) as reader:
        await clock.advance(120)
        await reader.append("a/more", SAID, after=0)  # after it, all that is tidied up was
    async with opened(journal, NEW, OLD) as reader:
        assert await events(reader, "a/old") == SAID


# Switching it on


async def test_plain_entries_are_read_only_where_that_is_said(journal: str) -> None:
    await write(journal, "a/plain")
    with pytest.raises(SetupError, match=r'not encrypted.*plain = "read"'):
        await opened(journal, NEW).open()
    await write(journal, "a/new", NEW, plain="read")
    async with opened(journal, NEW, plain="read") as reader:
        assert await events(reader, "a/plain") == await events(reader, "a/new") == SAID
    await write_many(journal, NEW)
    async with opened(journal, NEW) as reader:
        assert await events(reader, "a/new") == SAID
        with pytest.raises(StreamLocked, match="not encrypted"):
            await reader.read("a/plain")


async def test_keys_may_be_everywhere_before_anything_is_encrypted(journal: str) -> None:
    await write(journal, "a/b", NEW, plain="write")
    async with opened(journal) as reader:  # one that has no keys yet
        assert await events(reader, "a/b") == SAID


async def test_a_stream_may_begin_plain_and_go_on_encrypted(journal: str) -> None:
    async with opened(journal) as writer:
        await writer.append("a/b", SAID[:1], after=0)
        await writer.append("a/b", SAID[1:2], after=1)
    async with opened(journal, NEW, plain="read") as writer:
        await writer.append("a/b", SAID[2:3], after=2)
        await writer.append("a/b", SAID[3:], after=3)
        assert await events(writer, "a/b") == SAID
        assert await writer.read("a/b", after=1, limit=2) == (await writer.read("a/b"))[1:3]


# Those who write the storage


@pytest.mark.parametrize("garbage", [GARBAGE, b"", b"\xff", b' [3,1.0,{"type":"x"}]'])
async def test_garbage_is_passed_over_as_in_any_journal(journal: str, garbage: bytes) -> None:
    stream = f"a/{uuid4().hex}"
    await write(journal, stream, NEW)
    await poison(journal, stream, 2, garbage)
    async with opened(journal, NEW) as reader:
        await _passed_over(reader, stream)


async def _passed_over(reader: Journal, stream: str) -> None:
    assert [entry.seq for entry in await reader.read(stream)] == [1]
    with pytest.raises(EntriesUnreadable) as gone:
        await reader.read(stream, after=1)
    assert gone.value.first == 3
    assert [entry.seq for entry in await reader.read(stream, after=2)] == [3, 4]


async def test_an_entry_that_somebody_writes_without_a_key_is_not_read(journal: str) -> None:
    await write(journal, "a/b", NEW)
    await poison(journal, "a/b", 3, FUTURE)
    async with opened(journal, NEW) as reader:
        assert await events(reader, "a/b") == SAID[:2]
        with pytest.raises(StreamLocked):
            await reader.read("a/b", after=2)


@asynccontextmanager
async def changed(path: Path, statement: str, *values: object) -> AsyncGenerator[Journal]:
    """A journal of two streams after somebody has changed its file."""
    url, streams = f"sqlite:///{path}", (f"a/{uuid4().hex}", f"b/{uuid4().hex}")
    for stream in streams:
        await write(url, stream, NEW)
    with closing(sqlite3.connect(path)) as db:
        db.create_function("flip", 2, _flip)
        db.execute(statement, values)
        db.commit()
    async with opened(url, NEW) as reader:
        yield reader


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("at", [13, 21, 30, 40, -1], ids=["first", "last", "nonce", "text", "tag"])
async def test_a_bit_that_was_changed_makes_a_chunk_unreadable(tmp_path: Path, at: int) -> None:
    change = "UPDATE chunks SET data = flip(data, ? % length(data)) WHERE stream = 1 AND last = 2"
    at = at if at >= 0 else 60
    async with changed(tmp_path / "journal.db", change, at) as reader:
        one, other = await reader.streams()
        await _passed_over(reader, one)
        assert await events(reader, other) == SAID


async def test_a_chunk_of_another_stream_is_not_read(tmp_path: Path) -> None:
    change = (
        "UPDATE chunks SET data = (SELECT data FROM chunks WHERE stream = 2 AND last = 2)"
        " WHERE stream = 1 AND last = 2"
    )
    async with changed(tmp_path / "journal.db", change) as reader:
        await _passed_over(reader, (await reader.streams())[0])


async def test_a_chunk_of_another_place_in_its_stream_is_not_read(tmp_path: Path) -> None:
    change = (
        "UPDATE chunks SET data = (SELECT data FROM chunks WHERE stream = 1 AND last = 3)"
        " WHERE stream = 1 AND last = 2"
    )
    async with changed(tmp_path / "journal.db", change) as reader:
        await _passed_over(reader, (await reader.streams())[0])


async def test_a_chunk_of_a_later_form_is_left_to_a_later_release(tmp_path: Path) -> None:
    change = "UPDATE chunks SET data = x'ff02' || substr(data, 3) WHERE stream = 1 AND last = 2"
    async with changed(tmp_path / "journal.db", change) as reader:
        one, _ = await reader.streams()
        with pytest.raises(StreamLocked, match="update Headway"):
            await reader.read(one, after=1)


def test_the_same_chunk_is_never_stored_twice_alike() -> None:
    cipher = ChunkCipher(Encryption((NEW,)))
    stored = {cipher.encrypt("a/b", 1, 2, b"[1],[2]") for _ in range(100)}
    assert len(stored) == 100
    assert {cipher.decrypt("a/b", each) for each in stored} == {b"[1],[2]"}


# Large ones, and other writers


async def test_entries_of_all_sizes_come_back(journal: str) -> None:
    small = Retention(stream_bytes=40_000)
    said: list[Event] = [
        Log("info", encode_json("\x00,\xff" * size)) for size in (0, 1, 100, 900, 3)
    ]
    encryption = Encryption((NEW,))
    async with open_journal(journal, retention=small, encryption=encryption) as writer:
        await writer.append("a/b", said, after=0)
        await writer.append("a/b", said[:2], after=5)
    async with opened(journal, NEW) as reader:
        assert await events(reader, "a/b") == [*said, *said[:2]]


async def test_a_thread_of_a_held_process_encrypts_too(journal: str) -> None:
    async with opened(journal, NEW) as writer:
        assert writer.blocking_writer is not None
        sign = writer.blocking_writer()
        await asyncio.to_thread(sign.append, "pulse/x", Entry(1, 1.0, Alive()))
        await asyncio.to_thread(sign.close)
        assert await events(writer, "pulse/x") == [Alive()]
    with pytest.raises(SetupError, match=shown_id(NEW)):
        await opened(journal).open()


# Runs of others


async def test_runs_of_a_process_whose_key_is_missing_are_left_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, process = f"sqlite:///{tmp_path / 'journal.db'}", new_process_id()
    run = run_stream("somebody", process + new_call_id())
    async with opened(url, OLD) as writer:
        await writer.append(process_stream(process), [Alive()], after=0)
        await writer.append(run, [Accepted("check"), Started(), Progress(1.0)], after=0)
    await write(url, "a/new", NEW, OLD)
    settings = replace(Settings(lease=10), encryption=Encryption((NEW,)))
    clock = FakeClock()
    async with served(GatedTools("quick").mcp, journal=url, clock=clock, settings=settings):
        await clock.advance(120, step=1)
    assert "runs of another process are left as they are" in caplog.text
    async with opened(url, NEW, OLD) as reader:
        head = await reader.head(run)
        assert head is not None
        assert not head.ended
    settings = replace(settings, encryption=Encryption((NEW, OLD)))
    clock = FakeClock()
    async with served(GatedTools("quick").mcp, journal=url, clock=clock, settings=settings):
        await clock.advance(120, step=1)
    async with opened(url, NEW, OLD) as reader:
        head = await reader.head(run)
        assert head is not None
        assert head.ended


async def test_a_call_whose_key_cannot_be_read_is_refused_and_not_executed_twice(
    journal: str,
) -> None:
    tools = GatedTools("wait")
    old, new = (Settings(encryption=Encryption(keys)) for keys in ((OLD,), (NEW,)))
    tools.gate.open()
    async with served(tools.mcp, journal=journal, settings=old) as wire:
        client = await connect(wire, "2026")
        await (await keyed_call(client, "wait", "once")).outcome()
    await write_many(journal, NEW, OLD)
    tools = GatedTools("wait")
    tools.gate.open()
    async with served(tools.mcp, journal=journal, settings=new) as wire:
        answer = await keyed_call(await connect(wire, "2026"), "wait", "once")
        assert answer.status == 503
        assert "The journal cannot be used" in (await answer.json())["error"]["message"]
        await (await keyed_call(await connect(wire, "2026"), "wait", "another")).outcome()
    assert tools.runs == 1  # the one with another key


async def test_a_run_that_cannot_be_read_is_not_taken_from_those_who_can(journal: str) -> None:
    run = run_stream("somebody", new_process_id() + new_call_id())
    beside = checkpoint_stream(run)
    async with opened(journal, OLD) as writer:
        await writer.append(run, [Accepted("check"), Started()], after=0)
    await write_many(journal, NEW, OLD)
    async with opened(journal, NEW, OLD) as writer:
        stored = RequestStored("tools/call", "tell", "somebody", "2025-11-25", encode_json({}))
        await writer.append(beside, [stored, TakenByWorker("gone")], after=0)
    for keys, is_taken in (((NEW,), False), ((NEW, OLD), True)):
        async with opened(journal, *keys) as taker:
            known = await load_restart(taker, run)
            assert known is not None
            taken = await take_over(taker, "me", run, *known, clock=taker.clock)
            assert (taken is not None) is is_taken
