"""Every setting that bounds something: reached over a real socket, counted under its name."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any, Final

import pytest
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Session, Wire, served
from tests.kit.tools import GatedTools
from tests.kit.waits import within
from tests.wire.sums import Numbers, scraped

from headway import Settings, log, part, report
from headway.settings import BOUNDS, Retention

pytestmark = pytest.mark.anyio

NO_BOUNDS: Final = {
    "progress_rate": "a pace: newer reports replace older ones (headway_merged_reports_total)",
    "heartbeat": "a pace",
    "ping": "a pace",
    "commit_after": "a time until an answer begins",
    "retry": "advice to clients",
    "retry_closed": "advice to clients",
    "grace": "of calls when the host of a mounted app stops",
    "hold_timeout": "a time after which a process is taken for stuck (the log names the tool)",
    "hold_warning": "a time after which the log names a tool",
    "hand_over": "a time after which a call goes on elsewhere (headway_handed_over_calls_total)",
    "profiles": "what is known of clients",
    "lease": "a time after which a process is taken for dead",
    "shutdown_delay": "a time in which a server that is told to stop takes calls as before",
    "on_delete": "a choice",
    "allowed_hosts": "a list of names",
    "allowed_origins": "a list of names",
    "check_host": "a choice",
    "metrics": "a choice",
    "calls_of_tools": "the same of single tools, counted as calls_each",
    "where": "a choice",
    "stateless": "a choice",
    "encryption": "the keys of the journal",
    "retention": "its own settings are below `keep.`",
    "keep.failed": "what is over it is counted as over keep.ttl",
    "keep.unfinished": "Redis forgets such streams by itself and tells nobody",
}
"""The other settings, and why nothing is counted for them."""


def talking_tools() -> GatedTools:
    """Tools that wait, and one that talks too much and returns too much."""
    plain = {"structured_output": False}
    tools = GatedTools(wait=plain, block=plain)
    tools.mcp.add_tool(talk, **plain)
    return tools


async def talk(parts: int = 0, text: int = 0, logs: int = 0, result: int = 0) -> str:
    report(1, 2, "x" * text)
    for _ in range(logs):
        log("x")
    try:
        for _ in range(parts):
            part("x" * 1000)
    except ValueError as error:
        return str(error)
    return "x" * result


Scenario = Callable[[Wire, Session], Awaitable[Any]]


def two(tool: str) -> Scenario:
    """Two calls where there is room for one; the second has to wait, or is refused."""

    async def scenario(wire: Wire, session: Session) -> None:
        first = await session.call(tool, id=1, token=1)
        await first.message()
        await session.send(session.call_message(tool, id=2, token=2))

    return scenario


def said(**arguments: int) -> Scenario:
    async def scenario(wire: Wire, session: Session) -> None:
        await (await session.call("talk", arguments)).outcome()

    return scenario


def posted(body: bytes) -> Scenario:
    async def scenario(wire: Wire, session: Session) -> None:
        await wire.ask("POST", session.headers(), body)

    return scenario


def sent(data: bytes) -> Scenario:
    async def scenario(wire: Wire, session: Session) -> None:
        connection = await wire.connect()
        connection.write(data)
        await within(connection.reader.read())

    return scenario


def unfinished(data: bytes) -> Scenario:
    """Send what is not the whole of a request, in two segments."""

    async def scenario(wire: Wire, session: Session) -> None:
        connection = await wire.connect()
        for piece in (data[:20], data[20:]):
            connection.write(piece)
            await within(connection.writer.drain())
            await asyncio.sleep(0.01)

    return scenario


async def a_batch(wire: Wire, session: Session) -> None:
    older = await Session.open(wire, "2025-03-26")
    await older.post([{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(2)])


def passing(seconds: float, first: Scenario) -> Scenario:
    async def scenario(wire: Wire, session: Session) -> None:
        await first(wire, session)
        await wire.clock.advance(seconds, step=seconds / 4)

    return scenario


async def one_call(wire: Wire, session: Session) -> Answer:
    answer = await session.call("wait", id=1, token=1)
    await answer.message()
    return answer


async def two_keys(wire: Wire, session: Session) -> None:
    for key in ("one", "two"):
        message = session.call_message("talk")
        message["params"]["_meta"] = {"headway/idempotency-key": key}
        await (await session.post(message)).outcome()


async def another_session(wire: Wire, session: Session) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _CLIENT}
    await wire.ask("POST", _anonymous(session), _initialize(hello))


def another_session_of(**experimental: Any) -> Scenario:
    async def scenario(wire: Wire, session: Session) -> None:
        capabilities = {"experimental": experimental}
        hello = {"protocolVersion": "2025-11-25", "capabilities": capabilities}
        body = _initialize({**hello, "clientInfo": _CLIENT})
        await wire.ask("POST", _anonymous(session), body)

    return scenario


def subscribed(*uris: str) -> Scenario:
    async def scenario(wire: Wire, session: Session) -> None:
        for uri in uris:
            await session.request("resources/subscribe", {"uri": uri})

    return scenario


async def ten_connections(wire: Wire, session: Session) -> None:
    for _ in range(10):
        connection = await wire.connect()
        connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")


_CLIENT = {"name": "t", "version": "1"}
_HEAD: Final = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n"


def _anonymous(session: Session) -> dict[str, str]:
    unwanted = ("mcp-session-id", "mcp-protocol-version")
    return {name: v for name, v in session.headers().items() if name.lower() not in unwanted}


def _initialize(params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    return json.dumps(message).encode()


def asked_often(times: int) -> Scenario:
    async def scenario(_wire: Wire, session: Session) -> None:
        for _ in range(times):
            await session.request("ping")

    return scenario


REACHED: Final[dict[str, tuple[dict[str, Any], Scenario]]] = {
    "max_runs": ({"max_runs": 1}, two("wait")),
    "threads": ({"threads": 1}, two("block")),
    "max_queue": ({"max_runs": 1, "max_queue": 0}, two("wait")),
    "max_open": ({"max_open": 1}, two("wait")),
    "max_open_each": ({"max_open_each": 1}, two("wait")),
    "requests_each": ({"requests_each": 1.0}, asked_often(6)),
    "calls_each": ({"calls_each": "1/h"}, two("quick")),
    "max_body": ({"max_body": 1000}, posted(b'"' + b"x" * 1000 + b'"')),
    "max_depth": ({"max_depth": 20}, posted(b"[" * 30 + b"]" * 30)),
    "max_values": ({"max_values": 20}, posted(b"[" + b"[]," * 30 + b"[]]")),
    "max_batch": ({"max_batch": 1}, a_batch),
    "max_arriving": ({"max_arriving": 1000}, unfinished(_HEAD + b"X: " + b"x" * 2000)),
    "max_sessions": ({"max_sessions": 1}, another_session),
    "max_session_streams": ({"max_session_streams": 1}, two("wait")),
    "max_session_bytes": ({"max_session_bytes": 1000}, subscribed("x:" + "x" * 900)),
    "max_subscriptions": ({"max_subscriptions": 1}, subscribed("x:1", "x:2")),
    "max_client": ({"max_client": 100}, another_session_of(x={"y": "x" * 100})),
    "max_keys": ({"max_keys": 1}, two_keys),
    "max_text": ({"max_text": 10}, said(text=11)),
    "max_part": ({"max_part": 1000}, said(parts=1)),
    "max_result": ({"max_result": 1000}, said(result=1001)),
    "log_rate": ({"log_rate": 1}, said(logs=12)),
    "timeout": ({"timeout": 5}, passing(6, one_call)),
    "session_ttl": ({"session_ttl": 5}, passing(8, said())),
    "max_connections": ({"max_connections": 4}, ten_connections),
    "max_head": ({"max_head": 2000}, sent(_HEAD + b"X: " + b"x" * 2000 + b"\r\n\r\n")),
    "head_timeout": ({"head_timeout": 0.05}, sent(_HEAD)),
    "body_timeout": ({"body_timeout": 0.05}, sent(_HEAD + b"Content-Length: 9\r\n\r\n")),
    "keep_alive": (
        {"keep_alive": 0.05},
        sent(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ),
    "keep.ttl": ({"retention": Retention(ttl=5)}, passing(40, said())),
    "keep.max_bytes": (
        {"retention": Retention(max_bytes=20_000)},
        passing(1, said(parts=30)),
    ),
    "keep.stream_entries": ({"retention": Retention(stream_entries=20)}, said(parts=30)),
    "keep.stream_bytes": ({"retention": Retention(stream_bytes=10_000)}, said(parts=30)),
}  # fmt: skip
"""How each limit is set low and reached."""

ELSEWHERE: Final = {
    "max_runs_each": "test_the_limits_of_one_caller_are_counted",
    "max_sessions_each": "test_the_limits_of_one_caller_are_counted",
    "max_keys_each": "test_who_has_as_many_keys_as_may_be_is_refused_and_nobody_else",
    "max_attempts": "test_a_run_is_begun_anew_by_one_process_after_another_and_not_for_ever",
    "worker_wait": "test_a_call_that_no_worker_takes_ends_with_a_clear_error",
}
"""The limits that need callers who are known, processes that die, or a Redis."""


def test_every_setting_is_a_bound_that_is_reached_here_or_says_why_it_is_none() -> None:
    known = [f.name for f in fields(Settings)] + [f"keep.{f.name}" for f in fields(Retention)]
    assert set(known) == {*BOUNDS, *NO_BOUNDS}
    assert not {*BOUNDS} & {*NO_BOUNDS}
    assert {*REACHED, *ELSEWHERE} == {*BOUNDS}


@pytest.mark.parametrize("setting", REACHED)
async def test_a_limit_that_is_reached_is_counted_under_its_name(setting: str) -> None:
    values, scenario = REACHED[setting]
    tools = talking_tools()
    async with served(tools.mcp, settings=Settings(**values)) as wire:
        session = await Session.open(wire)
        # An idle connection of the handshake may have reached its limit already.
        before = wire.app.counters.reached[setting]
        assert before == 0 or setting == "keep_alive"

        def is_counted(numbers: Numbers) -> bool:
            return numbers("limit_reached_total", setting=setting) > before

        try:
            await scenario(wire, session)
            if setting == "max_connections":
                wire.cut_all()
            numbers = await scraped(wire, is_counted)
        finally:
            tools.gate.open()
        assert numbers("limit", setting=setting) > 0 or setting == "max_queue"


async def test_the_limits_of_one_caller_are_counted() -> None:
    tools = guarded_tools()
    settings = Settings(max_runs_each=1, max_sessions_each=1)
    async with served(tools.mcp, settings=settings) as wire:
        alice = await Session.open(wire, extra=bearer("alice:1"))
        await another_session(wire, alice)
        first = await alice.call("wait", id=1, token=1)
        await first.message()
        refused = await (await alice.call("wait", id=2)).json()
        assert refused["error"]["data"] == {"limit": "max_runs_each"}
        numbers = await scraped(wire, lambda n: n("refusals_total", status="503") == 2)
        for setting in ("max_runs_each", "max_sessions_each"):
            assert numbers("limit_reached_total", setting=setting) == 1
            assert numbers("in_use", setting=setting) == numbers("limit", setting=setting) == 1
        tools.gate.open()
        await first.rest()
