"""Mounted in somebody's app, under each ASGI server: told to stop, it ends in order."""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.kit.peers import Modern, Session, Wire, text_of
from tests.kit.stdio import ROOT
from tests.kit.waits import until, within

from headway.clock import Clock
from headway.testing import ServerProcess

pytestmark = pytest.mark.anyio

APP = "tests.field.mounted_app:app"
UVICORN = ("uvicorn", APP, "--port", "{port}")
GUNICORN = ("gunicorn", APP, "--no-control-socket", "-b", "127.0.0.1:{port}")

SERVERS = {
    "uvicorn": UVICORN,
    "hypercorn": ("hypercorn", APP, "-b", "127.0.0.1:{port}", "--graceful-timeout", "30"),
    "granian": ("granian", APP, "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
    "gunicorn": (*GUNICORN, "-k", "asgi"),
    "gunicorn with uvicorn": (*GUNICORN, "-k", "uvicorn.workers.UvicornWorker"),
}
each_server = pytest.mark.parametrize("server", SERVERS)


class Mounted(ServerProcess):
    """The process, and what its clients have open."""

    def at(self, mount: str) -> Wire:
        wire = Wire(self.origin, cast("Any", None), Clock())
        wire.path = f"{mount}/mcp"
        self.wires.append(wire)
        return wire

    wires: list[Wire]


@asynccontextmanager
async def mounted(place: Path, command: tuple[str, ...]) -> AsyncGenerator[Mounted]:
    # The SDK's log is laid out for a terminal of so many columns.
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "1000", "HEADWAY_TEST_GO": str(place / "go")}
    process = Mounted(
        [sys.executable, "-m", *command], ready="/tools/readyz", cwd=place, env=environment
    )
    process.wires = []
    async with process:
        try:
            yield process
        finally:
            for wire in process.wires:
                wire.cut_all()


@each_server
async def test_streams_end_calls_have_their_time_and_the_process_ends(
    server: str, tmp_path: Path
) -> None:
    async with mounted(tmp_path, SERVERS[server]) as process:
        session = await Session.open(process.at("/tools"))
        listening = await session.get()
        await listening.frame()
        working = await session.call("work", id=1, token=1)
        hanging = await session.call("never", id=2, token=2)
        waiting = await Modern(process.at("/more")).request(
            "subscriptions/listen", {"notifications": {}}
        )
        for stream in (working, hanging, waiting):
            await stream.message()
        process.send_signal(signal.SIGTERM)
        assert await listening.rest() == []
        assert await waiting.rest() != []  # the listener's own result
        (tmp_path / "go").touch()
        assert text_of((await working.rest())[-1]) == "done"
        last = (await hanging.rest())[-1]
        assert "the server stopped" in last["error"]["message"]
        await within(process.ended())
    assert "Traceback" not in process.stderr, process.stderr


async def test_a_server_that_reloads_does_not_wait_for_who_listens(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "touched.py").touch()
    command = (*UVICORN, "--reload", "--reload-dir", str(watched))
    async with mounted(tmp_path, command) as process:
        session = await Session.open(process.at("/tools"))
        listening = await session.get()
        await listening.frame()
        os.utime(watched / "touched.py", (2_000_000_000, 2_000_000_000))
        assert await listening.rest() == []
        await until(lambda: process.stderr.count("Application startup complete") == 2)
        assert (await Session.open(process.at("/tools"))).id


async def test_several_processes_with_a_journal_in_memory_are_warned_of(tmp_path: Path) -> None:
    async with mounted(tmp_path, (*UVICORN, "--workers", "2")) as process:
        await until(lambda: "several processes" in process.stderr)
        assert "a journal that they share" in process.stderr


async def test_one_process_is_not_warned_of_others(tmp_path: Path) -> None:
    async with mounted(tmp_path, UVICORN) as process:
        assert "several processes" not in process.stderr
