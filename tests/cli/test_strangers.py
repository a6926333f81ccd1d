"""What a stranger's server says to `headway call`, and what of it reaches the terminal."""

import asyncio
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import httpx2
import pytest
from mcp.client.client import Client
from mcp_types import ElicitRequestFormParams, ElicitResult
from tests.cli.conftest import Command
from tests.cli.stranger import (
    EVENTS,
    Answer,
    Stranger,
    call_pay,
    refusing,
    saying,
    serving_stranger,
    write_head,
    write_json,
)
from tests.kit.waits import PATIENCE, until, within

from headway.cli.client import http_client, peer
from headway.cli.client.http_client import ProxyRoute
from headway.cli.client.retry_transport import RetryPolicy, RetryTransport
from headway.cli.display import ctrl_c_question, terminal_questions
from headway.cli.display.call_display import Silence
from headway.cli.display.ctrl_c_question import InterruptHandler
from headway.cli.exit_codes import Cancelled

pytestmark = pytest.mark.anyio

TASKS: dict[str, Any] = {"tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}
REQUIRED = {"taskSupport": "required"}


async def test_what_a_busy_server_says_is_one_harmless_line(command: Command) -> None:
    evil = "\x1b[2J\nheadway: all is well"
    busy = refusing("503 Service Unavailable", "Retry-After: 0", body=evil, times=1)
    async with serving_stranger({"tools/call": busy}) as stranger:
        ended = await call_pay(command, stranger.url)
    assert (ended.code, ended.out) == (0, "paid\n")
    assert "\x1b" not in ended.err
    assert "headway: all is well" not in ended.err.splitlines()
    assert "is busy: \\x1b[2J\\nheadway: all is well" in ended.err


async def test_an_event_that_does_not_end_is_given_up(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "LARGEST", 100_000)
    endless = saying((EVENTS,), b"data: x\n" * 100_000)
    async with serving_stranger({"tools/call": endless}) as stranger:
        ended = await call_pay(command, stranger.url)
    assert ended.code == 4
    assert "sends more than the 100,000 bytes" in ended.err


async def test_progress_that_is_no_number_is_shown_as_none(command: Command) -> None:
    async def answer(_: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        token = json.dumps(message["params"]["_meta"]["progressToken"])
        result = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}
        write_head(writer, "200 OK", EVENTS)
        for value in ("NaN", "1e400", "-1e400"):
            params = f'{{"progressToken": {token}, "progress": {value}, "total": {value}}}'
            text = f'{{"jsonrpc": "2.0", "method": "notifications/progress", "params": {params}}}'
            writer.write(f"data: {text}\n\n".encode())
        writer.write(f"data: {json.dumps(result)}\n\n".encode())

    async with serving_stranger({"tools/call": answer}) as stranger:
        ended = await call_pay(command, stranger.url)
    assert ended.code == 0, ended.err
    assert "nan" not in ended.err
    assert "inf" not in ended.err


async def test_a_server_that_is_busy_at_first_is_waited_for(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "CONNECT", 2.5)
    busy = refusing("503 Service Unavailable", "Retry-After: 3", times=1)
    async with serving_stranger({"initialize": busy, "server/discover": busy}) as stranger:
        ended = await call_pay(command, stranger.url, "--era", "2025")
    assert (ended.code, ended.out) == (0, "paid\n"), ended.err


class Busy(httpx2.AsyncBaseTransport):
    """Refuses some requests with a page, and answers the next."""

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self.opened = 0
        self.closed = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.opened += 1
        status = 503 if self.opened <= self._refusals else 202
        return httpx2.Response(status, headers={"Retry-After": "0"}, stream=_Page(self))


class _Page(httpx2.AsyncByteStream):
    def __init__(self, busy: Busy) -> None:
        self._busy = busy

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"<html>"

    async def aclose(self) -> None:
        self._busy.closed += 1


async def test_a_refusal_that_is_tried_again_is_closed() -> None:
    inner = Busy(2)
    transport = RetryTransport(inner, "http://x", RetryPolicy(60), was_heard=True)
    request = httpx2.Request("POST", "http://x/mcp", content=b"{}")
    response = await within(transport.handle_async_request(request))
    assert (response.status_code, inner.opened, inner.closed) == (202, 3, 2)


class Rude(Client):
    """A client that fails when its connection is closed."""

    async def __aexit__(self, *error: Any) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            raise anyio.ClosedResourceError


async def test_what_goes_wrong_while_a_connection_is_closed_costs_no_result(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "Client", Rude)
    async with serving_stranger() as stranger:
        ended = await call_pay(command, stranger.url)
    assert (ended.code, ended.out) == (0, "paid\n"), ended.err


async def test_what_goes_wrong_while_a_connection_is_closed_hides_no_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "Client", Rude)
    connected = asyncio.Event()

    async def stay(url: str) -> None:
        async with peer.Peer(ProxyRoute(url), peer.ConnectOptions()).connect():
            connected.set()
            await asyncio.Event().wait()

    async with serving_stranger() as stranger:
        staying = asyncio.create_task(stay(stranger.url))
        await within(connected.wait())
        staying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(staying)


class Full(httpx2.AsyncBaseTransport):
    """Has no connection for the first request, and one for the next."""

    def __init__(self) -> None:
        self.asked = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        if self.asked == 1:
            raise httpx2.PoolTimeout("no connection is free")
        return httpx2.Response(202)


async def test_a_call_that_got_no_connection_is_made_with_the_next() -> None:
    inner = Full()
    transport = RetryTransport(inner, "http://x", RetryPolicy(60), was_heard=True)
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay"}}'
    request = httpx2.Request("POST", "http://x/mcp", content=body)
    response = await within(transport.handle_async_request(request))
    assert (response.status_code, inner.asked) == (202, 2)


@pytest.mark.parametrize(
    ("declared", "seconds"),
    [
        (None, None),
        ({}, 90),
        ({"longestSilence": 10}, 90),
        ({"longestSilence": 120.0}, 360),
        ({"longestSilence": None}, None),
    ],
)
async def test_a_stream_may_be_silent_for_as_long_as_its_server_says(
    declared: Any, seconds: float | None
) -> None:
    capabilities = (
        {} if declared is None else {"experimental": {"headway/idempotency-key": declared}}
    )
    async with serving_stranger({}, capabilities) as stranger:
        way = ProxyRoute(stranger.url)
        options = peer.ConnectOptions(era="2025")
        async with peer.Peer(way, options).connect() as connection:
            assert connection.transport.silence_timeout == seconds


def becoming(task_id: str) -> Answer:
    async def answer(_: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        task = {
            "taskId": task_id,
            "status": "working",
            "createdAt": "2026-01-01T00:00:00Z",
            "lastUpdatedAt": "2026-01-01T00:00:00Z",
            "ttl": None,
        }
        write_json(writer, {"jsonrpc": "2.0", "id": message["id"], "result": {"task": task}})

    return answer


@pytest.mark.parametrize("task_id", ["a;touch${IFS}owned", "-rf", "it's", "deploy.7", "a/b:c"])
async def test_any_task_can_be_come_back_to_with_the_printed_line(
    command: Command, task_id: str
) -> None:
    async def result(_: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        assert message["params"]["taskId"] == task_id
        content = [{"type": "text", "text": "done"}]
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": content}}
        write_json(writer, answer)

    answers = {"tools/call": becoming(task_id), "tasks/result": result}
    async with serving_stranger(answers, TASKS) as stranger:
        stranger.tool["execution"] = REQUIRED
        options = ("--detach", "--era", "2025", "--output", "json")
        left = await call_pay(command, stranger.url, *options)
        assert (left.code, json.loads(left.out)) == (0, {"run": task_id}), left.err
        line = left.err.split("come back with: ")[1]
        words = shlex.split(line)
        assert words[:4] == ["headway", "attach", "--era", "2025"]
        assert task_id in words
        back = await asyncio.to_thread(command, *words[1:])
    assert (back.code, back.out) == (0, "done\n"), back.err


async def test_no_secret_is_in_what_is_printed(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("X-File: hunter3\n")
    headers = ("--header", "X-Own: hunter2", "--header", f"@{file}")
    async with serving_stranger({"tools/call": becoming("t")}, TASKS) as stranger:
        stranger.tool["execution"] = REQUIRED
        url = stranger.url.replace("//", "//me:hunter1@")
        left = await call_pay(command, url, "--detach", *headers)
    said = [left.err, (await call_pay(command, url, "--retry-for", "0")).err]
    said.append((await asyncio.to_thread(command, "call", "http://me:hunter1@[::1/mcp", "x")).err)
    assert left.code == 0, left.err
    assert not [text for text in said if "hunter" in text]
    assert f"--header 'X-Own: …' --header @{file}" in left.err


async def test_a_tool_asks_nothing_of_who_is_asked_whether_to_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two readers of one terminal would take each other's lines."""
    asked: list[str] = []
    asking, answered = threading.Event(), threading.Event()

    def read_answer(prompt: str) -> str:
        asked.append(prompt)
        asking.set()
        assert answered.wait(PATIENCE)
        return "c"

    def ask_person(_params: Any) -> ElicitResult:
        asked.append("the tool")
        return ElicitResult(action="decline")

    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(ctrl_c_question, "read_line", read_answer)
    monkeypatch.setattr(terminal_questions, "_ask_person", ask_person)
    terminal, screen = asyncio.Lock(), Silence()
    person = InterruptHandler(screen, terminal)
    questions = terminal_questions.Questions(screen, terminal)
    left_call = SimpleNamespace(is_left=False, is_cancelled=True)
    work = asyncio.create_task(asyncio.Event().wait())
    question = ElicitRequestFormParams(message="Which?", requested_schema={"type": "object"})

    async def be_asked() -> None:
        with person.watching(work, cast("Any", left_call), lambda: "back"):
            os.kill(os.getpid(), signal.SIGINT)
            await until(asking.is_set)
            tool = asyncio.create_task(questions(cast("Any", None), question))
            await asyncio.wait([tool], timeout=0)
            answered.set()
            try:
                await work
            finally:
                tool.cancel()
                await asyncio.wait([tool])

    with pytest.raises(Cancelled):
        await within(be_asked())
    assert asked == ["Leave the call running, or cancel it? [l/C] "]


async def test_a_cancel_that_the_server_refuses_is_not_said_to_have_worked(
    command: Command,
) -> None:
    refused = refusing("400 Bad Request", body="no")

    async def hang(_: Stranger, writer: asyncio.StreamWriter, _message: Any) -> None:
        write_head(writer, "200 OK", EVENTS)
        await writer.drain()
        await asyncio.get_running_loop().create_future()

    answers: dict[str, Answer] = {
        "tools/call": becoming("t"), "tasks/result": hang, "tasks/cancel": refused
    }  # fmt: skip
    async with serving_stranger(answers, TASKS) as stranger:
        stranger.tool["execution"] = REQUIRED
        for limit in (1, 10, 60):
            ended = await call_pay(command, stranger.url, "--timeout", f"{limit}s")
            if "tasks/cancel" in stranger.asked:
                break
    assert ended.code == 1
    assert "the server did not confirm that it was cancelled; come back with: " in ended.err
