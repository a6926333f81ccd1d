"""A killed server: what its tools allow goes on in another process, and the rest has an end."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.kit.peers import META, Modern, Session, Wire, progress_of, served, text_of
from tests.kit.program import Programs, programs_in
from tests.kit.waits import PATIENCE, until
from tests.wire.restarting import mcp

from headway import Settings
from headway.clock import Clock
from headway.events import Progress
from headway.journal import open_journal
from headway.protocol.run_uris import uri_of
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

TARGET = f"{Path(__file__).with_name('restarting.py')}:mcp"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


KEY = {"headway/idempotency-key": "k"}


async def killed_in_the_middle(
    programs: Programs, place: Path, tool: str, key: dict[str, str] | None = None
) -> tuple[Session, str]:
    """A 2025 client of a server that was killed in the middle of the call, and its last event."""
    journal = f"sqlite:///{place / 'j.db'}"
    arguments = ("run", TARGET, "--port", "0", "--journal", journal)
    server, url = await asyncio.to_thread(programs.serve, *arguments)
    wire = Wire(url.removesuffix("/mcp"), cast("Any", None), Clock())
    session = await Session.open(wire)
    message = session.call_message(tool, {"place": str(place)}, id="w", token="t")
    message["params"]["_meta"].update(key or {})
    answer = await session.post(message)
    async with asyncio.timeout(PATIENCE):
        while progress_of([await answer.message()]) != [5]:
            pass
    await until((place / "stuck").exists)
    # What is not stored yet dies with the process: that is another test's subject.
    async with asyncio.timeout(PATIENCE), open_journal(journal) as stored:
        (stream,) = await stored.streams("run/", unfinished=True)
        async for entry in stored.follow(stream):
            if isinstance(entry.event, Progress) and entry.event.progress == 5:
                break
    server.end()
    wire.cut_all()
    return session, answer.ids[-1]


def after_the_lease(place: Path) -> dict[str, Any]:
    """Another process on the same journal, when the lease of the killed one is over."""
    clock = FakeClock(start=time.time() + 11)
    return {"journal": f"sqlite:///{place / 'j.db'}", "clock": clock, "settings": Settings()}


async def test_a_run_that_may_is_begun_anew_and_its_client_gets_the_rest(
    programs: Programs, tmp_path: Path
) -> None:
    session, last = await killed_in_the_middle(programs, tmp_path, "may_restart")
    async with served(mcp, **after_the_lease(tmp_path)) as wire:
        session.wire = wire
        messages = await (await session.get(last)).rest()
    assert (messages[-1]["id"], text_of(messages[-1])) == ("w", "migrated")
    values = progress_of(messages)
    assert values == sorted(set(values))
    assert (values[0] >= 5, values[-5:]) == (True, [6, 7, 8, 9, 10])
    said = [m["params"].get("message") for m in messages if "progress" in m.get("params", {})]
    assert said[-6:] == ["Step 5", "Step 6", "Step 7", "Step 8", "Step 9", "10 done"]
    assert (tmp_path / "attempts").read_text() == "xx"


async def test_a_run_goes_on_from_its_checkpoints(programs: Programs, tmp_path: Path) -> None:
    """In a thread's loop, in one inside it, and with what the tool kept itself."""
    session, last = await killed_in_the_middle(programs, tmp_path, "migrate")
    async with served(mcp, **after_the_lease(tmp_path)) as wire:
        session.wire = wire
        messages = await (await session.get(last)).rest()
        pages = [f"t{table}.{page}" for table in range(10) for page in range(2)]
        assert (tmp_path / "done").read_text().split() == pages
        result = messages[-1]["result"]["structuredContent"]
        assert result == {"moved": 20, "attempt": 2, "parts": pages[:11]}
        values = progress_of(messages)
        assert (values, values[-1]) == (sorted(set(values)), 10)
        assert "attempt 2" in json.dumps(messages)
        (stream,) = await wire.app.journal.streams("run/")
        uri = uri_of(stream.rpartition("/")[2])
        answer = await (await session.request("resources/read", {"uri": uri})).outcome()
        shown = json.loads(answer["result"]["contents"][0]["text"])
        assert (shown["attempt"], shown["parts"]) == (2, pages)


async def test_a_run_that_may_not_ends_as_interrupted_with_what_it_had_said(
    programs: Programs, tmp_path: Path
) -> None:
    session, last = await killed_in_the_middle(programs, tmp_path, "fragile")
    async with served(mcp, **after_the_lease(tmp_path)) as wire:
        session.wire = wire
        messages = await (await session.get(last)).rest()
    assert "went away" in messages[-1]["error"]["message"]
    assert (tmp_path / "attempts").read_text() == "x"


async def test_a_task_survives_the_death_of_its_process(programs: Programs, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    arguments = ("run", TARGET, "--port", "0", "--journal", journal, "--hand-over", "at once")
    server, url = await asyncio.to_thread(programs.serve, *arguments)
    knows_tasks = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    first = Modern(Wire(url.removesuffix("/mcp"), cast("Any", None), Clock()), knows_tasks)
    answer = await first.call("may_restart", {"place": str(tmp_path)})
    task = (await answer.outcome())["result"]["taskId"]
    await until((tmp_path / "stuck").exists)
    server.end()
    first.wire.cut_all()
    async with served(mcp, **after_the_lease(tmp_path)) as wire:
        client = Modern(wire, knows_tasks)
        body = client.body("tasks/get", {"taskId": task})
        async with asyncio.timeout(PATIENCE):
            while True:
                state = await (await client.post(body, {"Mcp-Name": task})).json()
                if state["result"]["status"] != "working":
                    break
    assert state["result"]["status"] == "completed", state
    assert json.dumps(state["result"]["result"]["content"]).count("migrated") == 1
    assert state["result"]["_meta"][f"{META}serverInfo"]["name"] == "restarting"


@pytest.mark.parametrize(
    ("tool", "says", "attempts"), [("may_restart", "migrated", "xx"), ("fragile", "went away", "x")]
)
async def test_a_call_repeated_with_its_key_after_the_crash_is_not_done_twice(
    programs: Programs, tmp_path: Path, tool: str, says: str, attempts: str
) -> None:
    await killed_in_the_middle(programs, tmp_path, tool, KEY)
    async with served(mcp, **after_the_lease(tmp_path)) as wire:
        session = await Session.open(wire)
        message = session.call_message(tool, {"place": str(tmp_path)}, token="t")
        message["params"]["_meta"].update(KEY)
        async with asyncio.timeout(PATIENCE):
            outcome = await (await session.post(message)).outcome()
    assert says in json.dumps(outcome)
    assert (tmp_path / "attempts").read_text() == attempts
