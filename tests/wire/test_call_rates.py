"""How often one caller may call tools, or a single one, and how many places it has in one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, each_era, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until, within

from headway import Headway, Settings
from headway.errors import SetupError
from headway.protocol.idempotency_key import META_KEY
from headway.rate_limits import parse_rate

pytestmark = pytest.mark.anyio

Call = Callable[..., Awaitable[Answer]]


async def calling(wire: Wire, era: str, token: str | None = None) -> Call:
    """How a caller calls a tool."""
    headers = {} if token is None else bearer(token)
    if era == "2026":
        client = Modern(wire)
        return lambda tool, **meta: client.post(with_meta(client.call_message(tool), meta), headers)
    session = await Session.open(wire, extra=headers)
    return lambda tool, **meta: session.post(with_meta(session.call_message(tool), meta))


def with_meta(message: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    message["params"].setdefault("_meta", {}).update(meta)
    return message


async def statuses(call: Call, *tools: str) -> list[int]:
    found: list[int] = []
    for tool in tools:
        answer = await call(tool)
        await answer.body()
        found.append(answer.status)
    return found


@each_era
async def test_a_caller_is_told_when_to_call_again_and_others_go_on(era: str) -> None:
    async with served(guarded_tools().mcp, settings=Settings(calls_each="2/m")) as wire:
        alice = await calling(wire, era, "alice:1")
        assert await statuses(alice, "whoami", "whoami") == [200, 200]
        refused = await alice("whoami")
        assert (refused.status, refused.headers["retry-after"]) == (429, "30")
        error = (await refused.json())["error"]
        assert error["data"] == {"limit": "calls_each"}
        assert error["message"].endswith("(calls_each); try again in 30 s")
        # By another session, or with another token, she is the same caller.
        for other in ("2025", "2026"):
            assert await statuses(await calling(wire, other, "alice:2"), "whoami") == [429]
        assert await statuses(await calling(wire, era, "mallory:1"), "whoami") == [200]
        await wire.clock.advance(30)
        assert await statuses(alice, "whoami", "whoami") == [200, 429]
        assert wire.app.counters.reached["calls_each"] == 4


@each_era
async def test_other_requests_are_not_calls(era: str) -> None:
    async with served(GatedTools("quick").mcp, settings=Settings(calls_each="1/d")) as wire:
        call = await calling(wire, era)
        assert await statuses(call, "quick", "quick") == [200, 429]
        client = Modern(wire) if era == "2026" else await Session.open(wire)
        for _ in range(3):
            assert (await client.request("tools/list")).status == 200


def made_of_rates() -> Headway:
    mcp = Headway("rated")

    @mcp.tool(calls_each="1/m")
    async def dear() -> str:
        return "dear"

    @mcp.tool()
    async def cheap() -> str:
        return "cheap"

    assert dear
    assert cheap
    return mcp


@each_era
async def test_a_tool_has_a_rate_of_its_own(era: str) -> None:
    async with served(made_of_rates()) as wire:
        call = await calling(wire, era)
        assert await statuses(call, "dear", "dear", "cheap", "cheap") == [200, 429, 200, 200]
        refused = await call("dear")
        assert "1/m calls of dear" in (await refused.json())["error"]["message"]


@each_era
async def test_the_operator_has_the_last_word(era: str) -> None:
    rates = (("dear", "2/m"), ("cheap", "1/m"))
    async with served(made_of_rates(), settings=Settings(calls_of_tools=rates)) as wire:
        call = await calling(wire, era)
        assert await statuses(call, "dear", "dear", "dear") == [200, 200, 429]
        assert await statuses(call, "cheap", "cheap") == [200, 429]
    none = Settings(calls_of_tools=(("dear", ""),))
    async with served(made_of_rates(), settings=none) as wire:
        assert await statuses(await calling(wire, era), "dear", "dear") == [200, 200]


@each_era
async def test_a_call_that_is_repeated_by_its_key_is_counted_once(era: str) -> None:
    async with served(made_of_rates()) as wire:
        call = await calling(wire, era)
        for _ in range(3):
            answer = await call("dear", **{META_KEY: "once"})
            assert text_of(await answer.outcome()) == "dear"
        assert await statuses(call, "dear") == [429]


async def test_each_call_of_a_batch_is_counted() -> None:
    async with served(made_of_rates()) as wire:
        session = await Session.open(wire, "2025-03-26")
        batch = [session.call_message(tool) for tool in ("dear", "cheap", "dear")]
        outcomes = await (await session.post(batch)).rest()
        refused = [each["error"]["data"] for each in outcomes if "error" in each]
        assert refused == [{"limit": "calls_each"}]
        assert sorted(text_of(each) for each in outcomes if "result" in each) == ["cheap", "dear"]


@each_era
async def test_a_caller_has_so_many_places_in_a_tool(era: str) -> None:
    tools = GatedTools(wait={"concurrency_each": 1})
    async with served(tools.mcp, principal=named_in_header) as wire:
        waiting = [
            asyncio.ensure_future(first_words(await calling(wire, era, name)))
            for name in ("alice", "alice", "bob")
        ]
        await until(lambda: tools.at_once == 2)
        await until(lambda: wire.app.engine.admission.waiting == 1)
        assert tools.runs == 2
        tools.gate.open()
        for each in waiting:
            await within(each)
        assert tools.most_at_once == 2
        # Without a name nobody has places of their own.
        assert "run" in text_of(await (await (await calling(wire, era))("wait")).outcome())
        assert not vars(wire.app.engine.admission)["_of_callers_tools"]


def named_in_header(scope: Any) -> str | None:
    given = dict(scope["headers"]).get(b"authorization", b"")
    return given.decode().removeprefix("Bearer ") or None


async def first_words(call: Call) -> str:
    return text_of(await (await call("wait")).outcome())


@pytest.mark.parametrize("text", ["", "5", "5/x", "0/s", "5/0s", "-1/s", "1.5/s", "a/b", "1/1/1"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="is no rate; write 5/s, 60/m, 100/10m or 1000/d"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "most", "seconds"),
    [("5/s", 5, 1), ("60/m", 60, 60), ("100/10m", 100, 600), (" 1000 / d ", 1000, 86400)],
)
def test_a_rate_is_read(text: str, most: int, seconds: float) -> None:
    rate = parse_rate(text)
    assert (rate.most, rate.seconds) == (most, seconds)


@pytest.mark.parametrize("settings", [{"calls_each": "x"}, {"calls_of_tools": (("dear", "x"),)}])
def test_a_setting_that_is_no_rate_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="'x' is no rate"):
        Settings(**settings)


async def test_a_rate_of_a_tool_that_is_not_there_is_an_error_at_the_start() -> None:
    settings = Settings(calls_of_tools=(("chaep", "1/m"),))
    with pytest.raises(SetupError, match=r"limits\.tools\.chaep: .*did you mean 'cheap'"):
        async with served(made_of_rates(), settings=settings):
            pass
