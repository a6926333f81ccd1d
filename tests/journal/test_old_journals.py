"""Journals that an earlier release wrote are read by this one (`c8ec9b6/make.py.txt` says how)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from redis import Redis
from tests.kit.peers import Modern, Session, Wire, progress_of, served, text_of

from headway import Headway, Settings
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent / "c8ec9b6"
META_KEY = "headway/idempotency-key"
TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
A_MOMENT_LATER = 1_700_000_030.0


def restored_sqlite(directory: Path) -> str:
    shutil.copy(HERE / "sqlite.journal", directory / "journal.db")
    return f"sqlite:///{directory / 'journal.db'}"


def restored_redis(url: str) -> str:
    address, _, options = url.partition("?")
    (prefix,) = parse_qs(options)["prefix"]
    with Redis.from_url(address) as redis:
        for command, key, *words in json.loads((HERE / "redis.json").read_text()):
            here = prefix + key.removeprefix("headway:")
            redis.execute_command(*(word.encode("latin-1") for word in (command, here, *words)))
    return url


@pytest.fixture(params=["sqlite", "redis"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return restored_sqlite(tmp_path)
    new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
    return restored_redis(new_redis_url())


def known_of(journal: str) -> dict[str, Any]:
    return json.loads((HERE / f"{journal.partition(':')[0]}.known.json").read_text())


class Executed:
    """The same tools as those that wrote the journal, which count their calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.mcp = Headway("kept")
        self.mcp.add_tool(self.count)
        self.mcp.add_tool(self.later, hand_over="at once")
        self.mcp.add_tool(self.hang)

    async def count(self, to: int) -> str:
        self.calls.append("count")
        return f"counted to {to}"

    async def later(self) -> str:
        self.calls.append("later")
        return "done later"

    async def hang(self) -> str:
        self.calls.append("hang")
        return "never"


async def with_key(session: Session, to: int, key: str) -> dict[str, Any]:
    message = session.call_message("count", {"to": to})
    message["params"]["_meta"] = {META_KEY: key}
    return await (await session.post(message)).outcome()


def session_of(wire: Wire, known: dict[str, Any]) -> Session:
    return Session(wire, "2025-11-25", known["session"], {})


async def test_sessions_results_keys_and_tasks_of_an_earlier_release_are_there(journal: str):
    known, tools = known_of(journal), Executed()
    clock = FakeClock(start=A_MOMENT_LATER)
    async with served(
        tools.mcp, journal=journal, clock=clock, settings=Settings(progress_rate=0)
    ) as wire:
        session = session_of(wire, known)
        assert (await session.request("ping")).status == 200
        resumed = await (await session.get(known["ids"][0])).rest()
        assert text_of(resumed[-1]) == "counted to 3"
        assert progress_of(resumed) == [1, 2, 3]
        assert text_of(await with_key(session, 2, "kept")) == "counted to 2"
        task = await (
            await Modern(wire, TASKS).request("tasks/get", {"taskId": known["task"]})
        ).outcome()
        assert task["result"]["status"] == "completed"
        assert "done later" in json.dumps(task)
        assert tools.calls == []


async def test_a_run_of_a_process_that_is_gone_ends_as_interrupted(journal: str):
    known, tools = known_of(journal), Executed()
    clock = FakeClock(start=A_MOMENT_LATER)
    async with served(tools.mcp, journal=journal, clock=clock) as wire:
        ended = (await (await session_of(wire, known).get(known["hanging"])).rest())[-1]
        assert ended["id"] == "hangs"
        assert "went away" in ended["error"]["message"]


async def test_a_call_that_was_never_executed_is_executed_when_it_is_sent_again(journal: str):
    known, tools = known_of(journal), Executed()
    clock = FakeClock(start=A_MOMENT_LATER)
    async with served(tools.mcp, journal=journal, clock=clock) as wire:
        assert text_of(await with_key(session_of(wire, known), 5, "refused")) == "counted to 5"
        assert tools.calls == ["count"]
