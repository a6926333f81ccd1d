"""Several processes on one journal: a file, or a Redis."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.waits import PATIENCE

from headway.errors import Conflict, JournalError
from headway.events import Completed, Progress, Started, encode_json
from headway.journal import open_journal

CHILD = Path(__file__).with_name("child.py")

pytestmark = pytest.mark.anyio


class Child:
    def __init__(self, process: Process) -> None:
        self.process = process

    async def do(self, order: str) -> int:
        """Return the child's last `seq` once it says that the entry is stored."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n".encode())
        async with asyncio.timeout(PATIENCE):
            return int(await self.process.stdout.readline())


@contextlib.asynccontextmanager
async def child(url: str, stream: str) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), url, stream, stdin=PIPE, stdout=PIPE
    )
    try:
        yield Child(process)
    finally:
        async with asyncio.timeout(PATIENCE):
            await process.communicate(b"")  # which ends its input


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    if request.param == "redis":
        return request.getfixturevalue("new_redis_url")()
    return f"sqlite:///{path}"


async def test_one_process_follows_live_what_another_appends(url: str) -> None:
    async with open_journal(url) as journal, child(url, "run") as other, asyncio.timeout(PATIENCE):
        assert await other.do("step") == 1
        cursor = journal.open_cursor("run")
        assert [entry.seq for entry in await cursor.next()] == [1]
        for seq in (2, 3, 4):
            waiting = asyncio.create_task(cursor.next())
            await asyncio.sleep(0)
            assert await other.do("step") == seq
            assert [entry.seq for entry in await waiting] == [seq]
        assert not cursor.done
        await other.do("end")
        assert [entry.seq for entry in await cursor.next()] == [5]
        assert cursor.done


async def test_a_process_that_is_behind_is_refused_and_can_go_on(url: str) -> None:
    async with open_journal(url) as journal, child(url, "run") as other, asyncio.timeout(PATIENCE):
        assert await journal.append("run", [Started()], after=0) == 1
        assert await other.do("step") == 2
        assert journal.append_nowait("run", Progress(9), after=1) == 2
        with pytest.raises(Conflict) as refused:
            await journal.wait_until_stored("run")
        assert (refused.value.after, refused.value.last) == (1, 2)
        assert await journal.append("run", [Progress(10)], after=2) == 3
        events = [entry.event for entry in await journal.read("run")]
        assert events == [Started(), Progress(2), Progress(10)]


async def test_of_two_appends_behind_the_same_entry_exactly_one_wins(url: str) -> None:
    async with open_journal(url) as one, open_journal(url) as two, asyncio.timeout(PATIENCE):
        for number in range(20):
            stream = f"run:{number}"
            outcomes = await asyncio.gather(
                one.append(stream, [Progress(1)], after=0),
                two.append(stream, [Progress(2)], after=0),
                return_exceptions=True,
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, JournalError)]
            assert len(refused) == 1
            assert isinstance(refused[0], Conflict)
            winner = Progress(1 if outcomes[0] == 1 else 2)
            assert [entry.event for entry in await one.read(stream)] == [winner]


async def test_processes_that_start_at_once_share_a_new_journal(url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        children = [await stack.enter_async_context(child(url, f"run:{n}")) for n in range(2)]
        assert await asyncio.gather(*(other.do("step") for other in children)) == [1, 1]
    async with open_journal(url) as journal:
        assert sorted(await journal.streams()) == ["run:0", "run:1"]


async def test_a_settled_terminal_entry_survives_kill_9(url: str) -> None:
    async with child(url, "run") as other:
        await other.do("step")
        assert await other.do("end") == 2
        other.process.kill()
        await other.process.wait()
    async with open_journal(url) as journal, asyncio.timeout(PATIENCE):
        events = [entry.event async for entry in journal.follow("run")]
        assert events == [Progress(1), Completed(encode_json(None))]


async def test_a_follower_sees_what_its_own_process_appends_later(url: str) -> None:
    """Recovery: somebody already follows a run of a dead process when we end it."""
    async with open_journal(url) as dead:
        await dead.append("run", [Started()], after=0)
    async with open_journal(url) as journal, asyncio.timeout(PATIENCE):
        cursor = journal.open_cursor("run")
        assert len(await cursor.next()) == 1
        waiting = asyncio.create_task(cursor.next())
        await asyncio.sleep(0)
        await journal.append("run", [Completed(encode_json(None))], after=1)
        assert [entry.seq for entry in await waiting] == [2]
