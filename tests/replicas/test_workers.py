"""`headway run --workers N`: real processes, real signals."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from mcp import Client
from tests.cli.conftest import EXAMPLE
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, text_of
from tests.kit.program import Programs, programs_in
from tests.kit.waits import PATIENCE, gone

from headway.clock import Clock
from headway.events import Progress
from headway.journal import open_journal
from headway.testing.server_process import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name != "posix", reason="POSIX only")]


def journal_in(place: Path) -> str:
    return f"sqlite:///{place / 'journal.db'}"


def command(place: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "headway", "run", f"{Path(__file__).parent / 'pids.py'}:mcp",
        "--port", "{port}", "--journal", journal_in(place), "--workers", "2",
        "--set", "lease=2s", *more,
    ]  # fmt: skip


@asynccontextmanager
async def crew(place: Path, *more: str) -> AsyncGenerator[tuple[ServerProcess, Wire]]:
    """Two workers of one parent, and a wire to whichever takes a connection."""
    async with ServerProcess(command(place, *more)) as server:
        wire = Wire(server.origin, cast("Any", None), Clock())
        try:
            yield server, wire
        finally:
            wire.cut_all()


async def pid_of(client: Modern | Session) -> int | None:
    """Which process answers; None when the one that would have was killed."""
    try:
        answer = await client.call("pid")
        pid = int(text_of(await answer.outcome()))
    except (OSError, asyncio.IncompleteReadError):
        return None
    answer.cut()
    return pid


async def both(client: Modern | Session, without: int = 0) -> set[int]:
    """Two processes that answer, neither of which is `without`."""
    found: set[int] = set()
    async with asyncio.timeout(PATIENCE):
        while len(found) < 2:
            calls = await asyncio.gather(*(pid_of(client) for _ in range(8)))
            found |= {pid for pid in calls if pid and pid != without}
    return found


async def test_a_killed_worker_is_replaced_and_the_others_serve_on(tmp_path: Path) -> None:
    async with crew(tmp_path) as (server, wire):
        client = Modern(wire)
        session = await Session.open(wire)
        victim, other = await both(client)
        os.kill(victim, signal.SIGKILL)
        assert other in await both(client, without=victim)
        assert "another one is started" in server.stderr
        assert (await session.request("ping")).status == 200
        assert await server.terminate() == 0


async def test_sigterm_lets_the_calls_of_all_workers_finish(tmp_path: Path) -> None:
    async with crew(tmp_path) as (server, wire):
        client = Modern(wire)
        await both(client)
        go = tmp_path / "go"
        calls = [await client.call("wait", {"place": str(go)}, token=n) for n in range(6)]
        for answer in calls:
            await answer.message()
        server.send_signal(signal.SIGTERM)
        go.touch()
        for answer in calls:
            assert text_of((await answer.rest())[-1]) == "done"
        assert await server.ended() == 0


async def test_a_run_of_a_killed_worker_is_begun_anew_by_another_one(tmp_path: Path) -> None:
    """Scenario 16: within the lease, and once for the client that comes back."""
    async with crew(tmp_path) as (_, wire):
        session = await Session.open(wire)
        go = tmp_path / "go"
        answer = await session.call("steady", {"place": str(go)}, id="w", token="t")
        victim = int((await answer.message())["params"]["message"])
        last = answer.ids[-1]
        # What is not stored yet dies with the process: that is another test's subject.
        async with asyncio.timeout(PATIENCE), open_journal(journal_in(tmp_path)) as stored:
            (stream,) = await stored.streams("run/", unfinished=True)
            async for entry in stored.follow(stream):
                if isinstance(entry.event, Progress):
                    break
        os.kill(victim, signal.SIGKILL)
        go.touch()
        messages: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE):
            while not any("id" in message for message in messages):
                try:
                    again = await session.get(last)
                    messages += await again.rest()
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    continue
        assert messages[-1]["id"] == "w"
        assert int(text_of(messages[-1])) != victim


async def test_a_rolling_deploy_ends_no_call(tmp_path: Path) -> None:
    """Scenario 19: replicas are told to stop one after the other while their calls go on."""
    alone = [
        sys.executable, "-m", "headway", "run", f"{Path(__file__).parent / 'pids.py'}:mcp",
        "--port", "{port}", "--journal", journal_in(tmp_path),
    ]  # fmt: skip
    async with ServerProcess(alone) as first, ServerProcess(alone) as second:
        wires = [Wire(server.origin, cast("Any", None), Clock()) for server in (first, second)]
        session = await Session.open(wires[0])
        for turn, (server, other) in enumerate([(first, wires[1]), (second, wires[0])]):
            go = tmp_path / f"go{turn}"
            calls: list[Answer] = []
            for number in range(8):
                session.wire = wires[number % 2]
                name = f"{turn}.{number}"
                calls.append(await session.call("wait", {"place": str(go)}, id=name, token=name))
                await calls[-1].message()
            server.send_signal(signal.SIGTERM)
            session.wire = other
            assert (await session.request("ping")).status == 200
            go.touch()
            assert [text_of((await call.rest())[-1]) for call in calls] == ["done"] * 8
            assert await server.ended() == 0
            await server.start()
        for wire in wires:
            wire.cut_all()


async def test_workers_end_when_their_parent_was_killed(tmp_path: Path) -> None:
    async with crew(tmp_path) as (server, wire):
        pids = await both(Modern(wire))
        await server.kill()
        for pid in pids:
            await gone(pid)


async def test_the_official_client_is_served_without_sessions(tmp_path: Path) -> None:
    async with (
        crew(tmp_path, "--stateless") as (server, _),
        Client(f"{server.origin}/mcp", mode="legacy") as client,
    ):
        for _ in range(6):
            result = await client.call_tool("pid", {})
            assert not result.is_error


@pytest.fixture
def programs(tmp_path: Path):
    with programs_in(tmp_path) as started:
        yield started


def test_a_journal_in_memory_is_refused(programs: Programs) -> None:
    target = f"{EXAMPLE}:mcp"
    finished = programs.run("run", target, "--workers", "2", "--journal", "memory:", "--port", "0")
    assert finished.code == 3
    assert "--workers needs a journal that processes can share" in finished.err


def test_a_server_that_cannot_start_is_not_started_for_ever(
    programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "broken.db").write_text("this is no journal " * 1000)
    options = ("--workers", "2", "--journal", f"sqlite:///{tmp_path / 'broken.db'}")
    program = programs.start("run", f"{EXAMPLE}:mcp", "--port", "0", *options)
    finished = program.finish(110)  # three processes, one after the other, on a busy machine
    assert finished.code == 3
    assert "another one" not in finished.err
