"""A call that may have been done is not made again where that could do it twice, and it is said."""

import asyncio
import json
from typing import Any

import pytest
from tests.cli.conftest import Command
from tests.cli.stranger import (
    EVENTS,
    JSON,
    Answer,
    Stranger,
    answer_as_usual,
    call_pay,
    refusing,
    saying,
    serving_stranger,
    write_head,
    write_json,
)
from tests.kit.program import Finished

pytestmark = pytest.mark.anyio

DOUBT = "Whether pay was done is not known"

KEYS = {"experimental": {"headway/idempotency-key": {"durable": True}}}
SHORT_LIVED = {"experimental": {"headway/idempotency-key": {"durable": False}}}

LOST: dict[str, Answer] = {
    "nothing": saying((JSON, "Content-Length: 100"), b""),
    "cut JSON": saying((JSON, "Content-Length: 100"), b'{"jsonrpc": "2.0", "id"'),
    "cut JSON without a length": saying((JSON,), b'{"jsonrpc": "2.0", "id"'),
    "cut stream": saying((EVENTS,), b": ping\n\n"),
    "stream with an endless number": saying((EVENTS,), b"retry: " + b"9" * 5000 + b"\n\n"),
    "no answer of the protocol": saying(("Content-Type: text/html",), b"<html>"),
    "502": refusing("502 Bad Gateway"),
    "503 without a time": refusing("503 Service Unavailable"),
    "504": refusing("504 Gateway Timeout"),
    "500": refusing("500 Internal Server Error"),
}


async def call(command: Command, url: str, *options: str) -> Finished:
    return await call_pay(command, url, "--retry-for", "2s", *options)


@pytest.mark.parametrize("capabilities", [{}, SHORT_LIVED], ids=["no keys", "keys of a process"])
@pytest.mark.parametrize("how", LOST)
async def test_a_call_that_a_server_may_have_taken_is_made_once(
    command: Command, how: str, capabilities: dict[str, Any]
) -> None:
    async with serving_stranger({"tools/call": LOST[how]}, capabilities) as stranger:
        ended = await call(command, stranger.url)
    assert stranger.calls == 1
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert DOUBT in ended.err.splitlines()[-1]


@pytest.mark.parametrize("how", ["cut JSON", "cut stream", "504"])
async def test_a_call_is_made_again_where_its_key_is_known_whatever_happened(
    command: Command, how: str
) -> None:
    async def fail_once(stranger: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        answer = LOST[how] if stranger.calls == 1 else answer_as_usual
        await answer(stranger, writer, message)

    async with serving_stranger({"tools/call": fail_once}, KEYS) as stranger:
        ended = await call(command, stranger.url)
    assert (ended.code, ended.out, stranger.calls) == (0, "paid\n", 2), ended.err


async def test_a_stream_with_event_ids_is_asked_for_again_at_any_server(command: Command) -> None:
    called: list[Any] = []

    async def begin(_: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        called.append(message["id"])
        write_head(writer, "200 OK", EVENTS)
        writer.write(b"id: 1\ndata:\n\n")

    async def go_on(stranger: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        if not called:  # the session's own stream
            await answer_as_usual(stranger, writer, message)
            return
        result = stranger.result_of("tools/call")
        answer = json.dumps({"jsonrpc": "2.0", "id": called[0], "result": result})
        write_head(writer, "200 OK", EVENTS)
        writer.write(f"id: 2\ndata: {answer}\n\n".encode())

    async with serving_stranger({"tools/call": begin, "GET": go_on}) as stranger:
        ended = await call(command, stranger.url)
    assert (ended.code, ended.out, stranger.calls) == (0, "paid\n", 1), ended.err


async def test_a_server_that_was_started_again_is_not_asked_for_a_call_of_the_one_before(
    command: Command,
) -> None:
    """The call was lost; the next server knows neither the session nor the key."""

    async def open_session(stranger: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        result = {"jsonrpc": "2.0", "id": message["id"], "result": stranger.result_of("initialize")}
        write_json(writer, result, "200 OK", "Mcp-Session-Id: one")

    async def call_twice(stranger: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        answer = LOST["nothing"] if stranger.calls == 1 else refusing("404 Not Found")
        await answer(stranger, writer, message)

    answers: dict[str, Answer] = {"initialize": open_session, "tools/call": call_twice}
    async with serving_stranger(answers, SHORT_LIVED) as stranger:
        ended = await call(command, stranger.url)
    assert (ended.code, stranger.calls, stranger.asked.count("initialize")) == (4, 2, 1)
    assert DOUBT in ended.err.splitlines()[-1]


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_a_call_that_was_refused_for_now_is_made_again(command: Command, status: str) -> None:
    refused = refusing(status, "Retry-After: 0", times=2)
    async with serving_stranger({"tools/call": refused}) as stranger:
        ended = await call(command, stranger.url)
    assert (ended.code, ended.out, stranger.calls) == (0, "paid\n", 3), ended.err
    assert "done is not known" not in ended.err


async def test_a_call_that_was_never_made_is_not_in_doubt(command: Command) -> None:
    async with serving_stranger({"tools/list": refusing("504 Gateway Timeout")}) as stranger:
        ended = await call(command, stranger.url)
    assert (ended.code, stranger.calls) == (4, 0)
    assert "done is not known" not in ended.err
