"""Stop means stop: whoever stops a call in whatever way, its query and its program end.

The tools are sync and block their thread; what they do is noted in a file, which the tests read.
Every wait is bounded; how quick a stop is on an idle machine is no matter of these tests.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from tests.chaos.visits import TASKS
from tests.kit.peers import Modern, Session, Wire
from tests.kit.stdio import program
from tests.kit.waits import gone, is_alive, until, until_seen

from headway.clock import Clock
from headway.journal import open_journal
from headway.testing import ServerProcess

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

ROOT = Path(__file__).parents[2]
TARGET = "tests.chaos.halting:mcp"


@dataclass
class Notes:
    """What a tool writes down of what it does, and where."""

    place: Path

    @property
    def arguments(self) -> dict[str, object]:
        return {"place": str(self.place)}

    @property
    def lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.place / "notes").read_text().split("\n")[:-1]
        return []

    @property
    def pid(self) -> int:
        return int((self.place / "pid").read_text())

    async def has(self, *notes: str) -> None:
        await until(lambda: set(notes) <= set(self.lines), f"no {notes} in {self.place}")


@dataclass
class Target:
    """A server process, and the way to it."""

    server: ServerProcess
    notes: Notes
    journal: str
    line: Wire

    async def session(self) -> Session:
        return await Session.open(self.line)


def server_on(journal: str) -> ServerProcess:
    options = ("--port", "{port}", "--journal", journal, "--grace", "200ms")
    command = [sys.executable, "-m", "headway", "run", TARGET, *options]
    return ServerProcess(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """One server for all ways: a stop leaves nothing behind that the next call could find."""
    journal = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'journal.db'}"
    server = server_on(journal)
    try:
        asyncio.run(server.start())
        yield server, journal
    finally:
        server.close()


@asynccontextmanager
async def reached(server: ServerProcess, journal: str, place: Path) -> AsyncGenerator[Target]:
    line = Wire(server.origin, cast("Any", None), Clock())
    try:
        yield Target(server, Notes(place), journal, line)
    finally:
        line.cut_all()
        await asyncio.sleep(0)  # connections are closed with the next turn


@pytest.fixture
async def to(shared: tuple[ServerProcess, str], tmp_path: Path) -> AsyncGenerator[Target]:
    async with reached(*shared, tmp_path) as target:
        yield target


# The ways to stop a call. Each begins a tool, waits until it is at work, and stops it; what is
# returned waits for the last words that the caller hears.

Heard = Coroutine[Any, Any, dict[str, Any]]
Way = Callable[[Target, str], Coroutine[Any, Any, Heard | None]]


async def cancelled_2025(to: Target, tool: str) -> Heard:
    session = await to.session()
    answer = await session.call(tool, to.notes.arguments, id="c", token="t")
    await to.notes.has("began")
    await session.notify("notifications/cancelled", {"requestId": "c"})
    return answer.outcome()


async def deleted_2025(to: Target, tool: str) -> Heard:
    session = await to.session()
    answer = await session.call(tool, to.notes.arguments, id="c", token="t")
    await to.notes.has("began")
    assert (await session.delete()).status == 200
    return answer.outcome()


async def task_2025(to: Target, tool: str) -> Heard:
    session = await to.session()
    params = {"name": tool, "arguments": to.notes.arguments, "task": {}}
    created = await (await session.request("tools/call", params)).outcome()
    await to.notes.has("began")

    async def cancel() -> dict[str, Any]:
        which = {"taskId": created["result"]["task"]["taskId"]}
        await (await session.request("tasks/cancel", which)).body()
        return await (await session.request("tasks/result", which)).outcome()

    return cancel()


async def closed_2026(to: Target, tool: str) -> None:
    answer = await Modern(to.line).call(tool, to.notes.arguments, token="t")
    await to.notes.has("began")
    answer.cut()


async def task_2026(to: Target, tool: str) -> Heard:
    modern = Modern(to.line, TASKS)
    created = await (await modern.call(f"{tool}_task", to.notes.arguments)).outcome()
    await to.notes.has("began")
    task = created["result"]["taskId"]

    async def ask(method: str) -> dict[str, Any]:
        answer = await modern.post(modern.body(method, {"taskId": task}), {"Mcp-Name": task})
        return await answer.outcome()

    async def cancel() -> dict[str, Any]:
        await ask("tasks/cancel")
        return await until_seen(
            lambda: ask("tasks/get"), lambda state: state["result"]["status"] != "working"
        )

    return cancel()


async def by_the_operator(to: Target, tool: str) -> Heard:
    answer = await Modern(to.line).call(tool, to.notes.arguments, token="t")
    await to.notes.has("began")
    stream = await _only_run(to)
    command = ("-m", "headway", "cancel", stream.rpartition("/")[2], "--journal", to.journal)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    return answer.outcome()


async def _only_run(to: Target) -> str:
    """The stream of the run that goes on; those of tests before may be about to end."""
    async with open_journal(to.journal) as journal:
        (run,) = await until_seen(
            lambda: journal.streams("run/", unfinished=True), lambda runs: len(runs) == 1
        )
        return run


async def timed_out(to: Target, tool: str) -> Heard:
    answer = await Modern(to.line).call(f"{tool}_in_time", to.notes.arguments, token="t")
    await to.notes.has("began")
    return answer.outcome()


WAYS: dict[Way, str] = {
    cancelled_2025: "Request cancelled",
    deleted_2025: "the session was closed",
    task_2025: "cancelled",
    closed_2026: "",  # who closed the stream hears nothing
    task_2026: "cancelled",
    by_the_operator: "cancelled by the operator",
    timed_out: "within its limit of 1 s",
}
"""What the caller is told, by the way."""

each_way = pytest.mark.parametrize(("way", "words"), WAYS.items(), ids=lambda way: getattr(
    way, "__name__", ""))  # fmt: skip


@each_way
async def test_however_a_call_is_stopped_its_query_and_its_program_end(
    way: Way, words: str, to: Target
) -> None:
    heard = await way(to, "year")
    if heard is not None:
        assert words in json.dumps(await heard)
    await to.notes.has("query ended", "program ended")
    await gone(to.notes.pid)
    await _nothing_runs(to)
    assert to.notes.lines == ["began", "query ended", "program ended"]
    assert to.server.held().children == 0


@each_way
async def test_however_a_call_is_stopped_its_shielded_part_is_finished_first(
    way: Way, words: str, to: Target, tmp_path: Path
) -> None:
    heard = await way(to, "payment")
    last = None if heard is None else asyncio.create_task(heard)
    await to.notes.has("asked")
    assert to.notes.lines == ["began", "asked"]
    assert last is None or not last.done()
    (tmp_path / "go").touch()
    if last is not None:
        assert words in json.dumps(await last)
    await to.notes.has("finished")
    await _nothing_runs(to)
    assert to.notes.lines == ["began", "asked", "finished"]


async def _nothing_runs(to: Target) -> None:
    async with open_journal(to.journal) as journal:
        await until_seen(lambda: journal.streams("run/", unfinished=True), lambda runs: not runs)


# The end of the server itself


@asynccontextmanager
async def _served_alone(place: Path) -> AsyncGenerator[Target]:
    journal = f"sqlite:///{place / 'journal.db'}"
    async with server_on(journal) as server, reached(server, journal, place) as target:
        yield target


@pytest.mark.parametrize("era", ["2025", "2026"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_server_ends_what_its_calls_do(
    number: signal.Signals, era: str, tmp_path: Path
) -> None:
    async with _served_alone(tmp_path) as to:
        client = Modern(to.line) if era == "2026" else await to.session()
        answer = await client.call("year", to.notes.arguments, token="t")
        await to.notes.has("began")
        to.server.send_signal(number)
        assert "the server stopped" in json.dumps(await answer.outcome())
        assert await to.server.ended() == 0
        await gone(to.notes.pid)
        assert "went on" not in to.notes.lines


@pytest.mark.parametrize("era", ["2025", "2026"])
@pytest.mark.parametrize("how", ["cancelled", "SIGINT", "SIGTERM", "eof"])
async def test_over_stdio_the_query_and_the_program_end_as_well(
    how: str, era: str, tmp_path: Path
) -> None:
    notes = Notes(tmp_path)
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        if era == "2025":
            await client.shake_hands()
        await client.start("year", notes.arguments, era=era, id="c", token="t")
        await notes.has("began")
        assert is_alive(notes.pid)
        if how == "cancelled":
            await client.notify("notifications/cancelled", {"requestId": "c"})
            await notes.has("query ended", "program ended")
        elif how == "eof":
            client.close()
        else:
            client.send_signal(signal.Signals[how])
        await gone(notes.pid)
        if how != "cancelled":
            assert await client.gone() == 0
        assert "went on" not in notes.lines
