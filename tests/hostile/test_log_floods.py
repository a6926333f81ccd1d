"""What clients do can be read in the log, and cannot fill it."""

import asyncio
import itertools
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit.peers import Modern, Session, Wire, served
from tests.kit.waits import until

from headway import Headway, repeated_log_lines
from headway.repeated_log_lines import LINE_INTERVAL, LineLimit

pytestmark = pytest.mark.anyio

TIMES = 40


def make() -> Headway:
    mcp = Headway("floods")

    @mcp.tool()
    async def fail() -> str:
        raise ZeroDivisionError("by design")

    return mcp


async def no_http(wire: Wire) -> None:
    await wire.raw(b"x\r\n\r\n")


async def tls(wire: Wire) -> None:
    await wire.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


async def wrong_event(wire: Wire) -> None:
    session = await Session.open(wire)
    assert (await session.get("x")).status == 400


async def failing_tool(wire: Wire) -> None:
    assert (await Modern(wire).call("fail")).status == 200


async def wrong_notification(wire: Wire) -> None:
    session = await Session.open(wire)
    body = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": "x"}}
    assert (await wire.ask("POST", session.headers(), json.dumps(body).encode())).status == 202


FLOODS: dict[str, tuple[Callable[[Wire], Awaitable[None]], str, int]] = {
    "no HTTP": (no_http, "no valid request", 1),
    "TLS": (tls, "TLS is not spoken", 1),
    "wrong event ids": (wrong_event, "a GET was refused", 1),
    "a tool that fails": (failing_tool, "unexpected exception", 10),
    "wrong notifications": (wrong_notification, "malformed params", 10),
}
"""What is done over and over, what the log says of it, and how often at once."""


def counted(lines: list[str]) -> int:
    """How many events lines tell of: themselves, and those that they say were left out."""
    return len(lines) + sum(int(n) for line in lines for n in re.findall(r"and (\d+) more", line))


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_is_a_line_a_second_that_counts_the_others(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    cause, says, at_once = FLOODS[what]

    def lines() -> list[str]:
        return [r.getMessage() for r in caplog.records if says in r.getMessage()]

    # The limit of tracebacks is one for all apps: another test may have used it up.
    await asyncio.sleep(0)
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        async with served(make()) as wire:
            for _ in range(TIMES):
                await cause(wire)
            await until(lambda: counted(lines()) >= TIMES)
    seconds = (time.monotonic() - began) / LINE_INTERVAL
    assert lines()
    assert len(lines()) <= at_once + seconds + 1
    assert counted(lines()) >= TIMES


def record(text: str, *args: Any, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("headway.test", level, "here.py", 1, text, args, None)


def test_two_kinds_of_lines_do_not_hide_each_other() -> None:
    limit = LineLimit()
    assert limit.filter(record("one %s", 1))
    assert not limit.filter(record("one %s", 2))
    assert limit.filter(record("two"))
    assert limit.filter(record("one %s", 3, level=logging.ERROR))


class Stage:
    """Time and timers that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        self._timers.append((self.now + seconds, lambda: call(*args)))

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        due = [call for at, call in self._timers if at <= self.now]
        self._timers = [(at, call) for at, call in self._timers if at > self.now]
        for call in due:
            call()


@pytest.mark.parametrize("every", [0.03, 0.3, 0.7, 1.1])
def test_two_lines_of_a_kind_are_a_second_apart_and_none_is_lost(
    every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, limit, said = Stage(), LineLimit(), list[tuple[float, str]]()
    monkeypatch.setattr(repeated_log_lines.time, "monotonic", lambda: stage.now)
    monkeypatch.setattr(repeated_log_lines.asyncio, "get_running_loop", lambda: stage)
    monkeypatch.setattr(
        logging.Logger,
        "callHandlers",
        lambda _self, line: said.append((stage.now, line.getMessage())),
    )
    for _ in range(200):
        stage.go_on(every)
        line = record("x")
        if limit.filter(line):
            said.append((stage.now, line.getMessage()))
    for _ in range(3):
        stage.go_on(1.1)
    times = [at for at, _ in said]
    assert all(later - earlier > 0.95 for earlier, later in itertools.pairwise(times))
    assert counted([text for _, text in said]) == 200


def test_the_first_faults_of_a_kind_are_all_seen() -> None:
    limit = LineLimit(burst=3)
    assert [limit.filter(record("x")) for _ in range(5)] == [True, True, True, False, False]


def test_kinds_without_end_take_no_memory_without_end() -> None:
    limit = LineLimit()
    for number in range(5000):
        limit.filter(record(f"line {number}"))
    assert len(limit._kinds) <= 1000


async def test_the_lines_of_an_authors_own_loggers_are_all_his(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mcp, own = make(), logging.getLogger("somebody.else")

    @mcp.tool()
    async def talk() -> str:
        for _ in range(TIMES):
            own.warning("the same")
        return ""

    async with served(mcp) as wire:
        await Modern(wire).call("talk")
    assert sum(r.getMessage() == "the same" for r in caplog.records) == TIMES
