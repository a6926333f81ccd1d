"""Streams end with their token, and the work goes on: whoever comes back misses nothing."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.shared.subscriptions import ToolsListChanged
from pydantic import AnyHttpUrl
from tests.auth.callers import Known, Known2025, connect, policy
from tests.auth.issuer import Issuer, issuing
from tests.kit.auth import bearer
from tests.kit.http import Answer
from tests.kit.peers import VERSIONS, Wire, each_era, progress_of, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Settings
from headway.protocol.idempotency_key import META_KEY
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

GOOD_FOR = 600
"""Seconds until the first token expires."""


class Aging:
    """A server, and alice with a token that expires soon."""

    def __init__(self, wire: Wire, tools: GatedTools, issuer: Issuer, client: Known) -> None:
        self.wire, self.tools, self.client = wire, tools, client
        self._issuer = issuer

    def token(self, seconds: float) -> str:
        """A token that is good for so many seconds from now on."""
        return self._issuer.token(exp=int(self.wire.clock.time() + seconds))

    def fresh(self) -> Known:
        """The same client with a token that is good for long."""
        return self.client.with_token(self.token(100 * GOOD_FOR))

    async def expire(self) -> None:
        """Let time go on until the first token has expired."""
        await self.wire.clock.advance(GOOD_FOR + 1, step=100)


@asynccontextmanager
async def aging(
    era: str, *, seconds: float = GOOD_FOR, settings: Settings | None = None, **how: Any
) -> AsyncGenerator[Aging]:
    tools = GatedTools("wait", "step", "quick")
    clock = FakeClock(start=time.time())
    async with (
        issuing() as issuer,
        served(tools.mcp, auth=policy(issuer), clock=clock, settings=settings) as wire,
    ):
        token = issuer.token(exp=int(clock.time() + seconds))
        yield Aging(wire, tools, issuer, await connect(wire, era, token, **how))


def of_2025(client: Known) -> Known2025:
    assert isinstance(client, Known2025)
    return client


async def is_open(answer: Answer) -> None:
    """See that a stream goes on: something comes on it."""
    assert await answer.frame() is not None


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_stream_of_a_2025_call_is_closed_and_resumed(version: str) -> None:
    async with aging("2025", version=version) as at:
        at.tools.gate.let_pass()
        answer = await at.client.call("step", {"steps": 3}, id="call", token="t")
        before = [await answer.message()]
        await at.expire()
        before += await answer.rest()
        assert not any("id" in message for message in before)  # neither a result nor an error
        at.tools.gate.let_pass(2)
        await until(lambda: at.tools.ended == 1)
        assert at.tools.stopped == 0
        again = of_2025(at.fresh())
        after = await (await again.get(answer.ids[-1])).rest()
        assert text_of(after[-1]) == "run 1"
        assert after[-1]["id"] == "call"
        values = progress_of([*before, *after])
        assert values == sorted(set(values))
        assert (values[0], values[-1]) == (1, 3)


async def test_the_stream_says_when_to_come_back() -> None:
    async with aging("2025") as at:
        answer = await at.client.call("wait", token="t")
        await answer.message()
        await at.expire()
        frames = [frame async for frame in _frames(answer)]
        assert frames[-1].retry is not None
        assert frames[-1].id is None


async def _frames(answer: Answer) -> AsyncIterator[Any]:
    while (frame := await answer.frame()) is not None:
        yield frame


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_resumed_stream_ends_with_its_own_token(version: str) -> None:
    async with aging("2025", version=version) as at:
        answer = await at.client.call("wait", token="t")
        await answer.message()
        place = answer.ids[-1]
        answer.cut()
        second = of_2025(at.client.with_token(at.token(2 * GOOD_FOR)))
        resumed = await second.get(place)
        await at.expire()
        await is_open(resumed)
        await at.expire()
        assert not any("id" in message for message in await resumed.rest())
        at.tools.gate.open()
        rest = await (await of_2025(at.fresh()).get(place)).rest()
        assert text_of(rest[-1]) == "run 1"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_get_stream_ends_and_what_comes_meanwhile_is_on_the_next(version: str) -> None:
    async with aging("2025", version=version) as at:
        ear = await of_2025(at.client).get()
        await at.tools.bus.publish(ToolsListChanged())
        assert (await ear.message())["method"] == "notifications/tools/list_changed"
        silent = await of_2025(at.client).get()
        await at.expire()
        assert [await ear.rest(), await silent.rest()] == [[], []]
        await at.tools.bus.publish(ToolsListChanged())
        again = await of_2025(at.fresh()).get(ear.ids[-1])
        assert (await again.message())["method"] == "notifications/tools/list_changed"


async def test_a_listener_of_2026_gets_its_result() -> None:
    async with aging("2026") as at:
        wanted = {"notifications": {"toolsListChanged": True}}
        ear = await at.client.request("subscriptions/listen", wanted, id="ear")
        await ear.message()
        await at.expire()
        *_, last = await ear.rest()
        assert (last["id"], last["result"]["resultType"]) == ("ear", "complete")
        assert not at.wire.app.engine.runs


async def test_the_members_of_a_batch_are_resumed_one_by_one() -> None:
    async with aging("2025", version="2025-03-26") as at:
        client = of_2025(at.client)
        members = [client.call_message("wait", id=name, token=name) for name in ("a", "b")]
        answer = await client.post(members)
        places = {}
        while len(places) < 2:
            message = await answer.message()
            places[message["params"]["progressToken"]] = answer.ids[-1]
        await at.expire()
        assert not any("result" in message for message in await answer.rest())
        at.tools.gate.open()
        for name, place in places.items():
            rest = await (await of_2025(at.fresh()).get(place)).rest()
            assert (rest[-1]["id"], "result" in rest[-1]) == (name, True)


async def test_a_server_with_its_own_auth_ends_streams_too() -> None:
    clock = FakeClock(start=time.time())

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            until = None if token == "for ever" else int(clock.time() + GOOD_FOR)
            scopes, name = ["use"], "alice"
            return AccessToken(
                token=token, client_id="app", subject=name, scopes=scopes, expires_at=until
            )

    settings = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl("http://127.0.0.1/mcp"),
        required_scopes=["use"],
        validate_token_resource=False,
    )
    tools = GatedTools("wait", server=MCPServer("own", auth=settings, token_verifier=Verifier()))
    async with served(tools.mcp, clock=clock) as wire:
        client = of_2025(await connect(wire, "2025", "short"))
        short = await client.call("wait", token="t", id=1)
        long = await client.with_token("for ever").call("wait", token="u", id=2)
        await clock.advance(GOOD_FOR + 1, step=100)
        assert not any("result" in message for message in await short.rest())
        tools.gate.open()
        assert text_of((await long.rest())[-1]).startswith("run")


# Answers that cannot be resumed


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_a_client_without_an_event_id_is_told(version: str) -> None:
    """It would wait for ever on a stream that ends without an answer."""
    async with aging("2025", version=version) as at:
        calling = asyncio.create_task(at.client.call("wait", id="call"))
        await until(lambda: at.tools.runs == 1)
        await at.wire.clock.advance(1, step=0.25)
        answer = await calling
        assert answer.is_stream
        await at.expire()
        (told,) = await answer.rest()
        assert (told["id"], told["error"]["data"]) == ("call", {"error": "invalid_token"})
        assert at.tools.stopped == 0


async def test_a_call_that_has_said_nothing_yet_is_resumed_too() -> None:
    async with aging("2025", settings=Settings(commit_after=2 * GOOD_FOR)) as at:
        calling = asyncio.create_task(at.client.call("wait", id="call"))
        await until(lambda: at.tools.runs == 1)
        await at.expire()
        answer = await calling
        assert await answer.rest() == []
        at.tools.gate.open()
        rest = await (await of_2025(at.fresh()).get(answer.ids[-1])).rest()
        assert text_of(rest[-1]) == "run 1"


def keyed(client: Known) -> dict[str, Any]:
    message = client.call_message("wait", id="call")
    message["params"].setdefault("_meta", {}).update({META_KEY: "once", "progressToken": "t"})
    return message


async def test_a_2026_call_is_told_and_its_key_has_the_result() -> None:
    async with aging("2026") as at:
        answer = await at.client.post(keyed(at.client))
        await answer.message()
        await at.expire()
        last = (await answer.rest())[-1]
        assert last["error"]["data"] == {"error": "invalid_token"}
        assert "it goes on" in last["error"]["message"]
        at.tools.gate.open()
        fresh = at.fresh()
        assert text_of(await (await fresh.post(keyed(fresh))).outcome()) == "run 1"
        assert (at.tools.runs, at.tools.stopped) == (1, 0)


async def test_a_2026_call_that_may_be_a_task_becomes_one() -> None:
    async with aging("2026", seconds=10, knows_tasks=True) as at:
        answer = await at.client.call("wait", token="t")
        await answer.message()
        await at.wire.clock.advance(11, step=0.5)
        task = (await answer.rest())[-1]["result"]
        assert task["resultType"] == "task"
        at.tools.gate.open()
        await until(lambda: at.tools.ended == 1)
        got = await (await at.fresh().request("tasks/get", {"taskId": task["taskId"]})).outcome()
        assert got["result"]["result"]["content"][0]["text"] == "run 1"


async def test_a_call_that_there_is_no_handle_for_is_told() -> None:
    settings = Settings(max_keys_each=1)
    async with aging("2026", seconds=10, knows_tasks=True, settings=settings) as at:
        at.tools.gate.let_pass()
        assert (
            await at.client.post(keyed(at.client))
        ).status == 200  # the one key that it may have
        await until(lambda: at.tools.ended == 1)
        answer = await at.client.call("wait", token="u", id="second")
        await answer.message()
        await at.wire.clock.advance(11, step=0.5)
        last = (await answer.rest())[-1]
        assert (last["id"], last["error"]["data"]) == ("second", {"error": "invalid_token"})


async def only_json(client: Known, message: dict[str, Any]) -> "asyncio.Task[Answer]":
    """A request of a client that takes no streams, under way."""
    data = json.dumps(message).encode()
    headers = (
        client.headers(Accept="application/json")
        if isinstance(client, Known2025)
        else client.headers(message, {"Accept": "application/json"})
    )
    return asyncio.create_task(client.wire.ask("POST", headers, data))


@pytest.mark.parametrize("era", ["2025", "2026", "stateless"])
async def test_who_waits_for_json_is_told_and_not_made_to_send_it_again(era: str) -> None:
    """After a 401 official clients send the same request again: it might be executed twice."""
    settings = Settings(stateless=True) if era == "stateless" else None
    async with aging("2025" if era == "2025" else "2026", settings=settings) as at:
        client = at.client
        if era == "stateless":
            version = {"MCP-Protocol-Version": "2025-11-25", **bearer(at.token(GOOD_FOR))}
            client = Known2025(at.wire, "2025-11-25", "", version)
        waiting = await only_json(client, client.call_message("wait", id="call"))
        await until(lambda: at.tools.runs == 1)
        await at.expire()
        told = await waiting
        assert told.status == 200
        assert (await told.json())["error"]["data"] == {"error": "invalid_token"}
        assert (at.tools.ended, at.tools.stopped) == (0, 0)


@each_era
async def test_a_result_that_is_there_is_not_taken_away(era: str) -> None:
    async with aging(era) as at:
        assert text_of(await (await at.client.call("quick")).outcome()) == "at once"
        await at.expire()
        assert not at.wire.app.engine.runs
