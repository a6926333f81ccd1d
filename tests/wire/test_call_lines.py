"""The log has one line for each call at its end, and tells of refusals: in this process."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from tests.kit.auth import bearer, guarded_tools
from tests.kit.floor import floor
from tests.kit.peers import Client, Modern, Session, begin, connect, each_era, served
from tests.kit.stdio import piped
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Headway, Settings, report
from headway.engine.run import end_line

pytestmark = pytest.mark.anyio

TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


class Lines:
    """The records of calls and refusals, as they come."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records]

    @property
    def calls(self) -> list[str]:
        return self._of("headway.calls")

    @property
    def refusals(self) -> list[str]:
        return self._of("headway.refusals")

    @property
    def facts(self) -> list[dict[str, Any]]:
        records = [each for each in self._caplog.records if each.name == "headway.calls"]
        return [vars(record)["headway_call"] for record in records]

    def _of(self, name: str) -> list[str]:
        return [each.getMessage() for each in self._caplog.records if each.name == name]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    with caplog.at_level(logging.INFO, "headway"):
        yield Lines(caplog)


def noisy_tools() -> Headway:
    mcp = Headway("noisy")

    @mcp.tool()
    async def work(secret: str = "") -> str:
        report(1, 2, "half")
        return "done"

    @mcp.tool()
    async def fail(secret: str = "") -> str:
        raise ToolError("disk is full\nsince noon")

    @mcp.tool(timeout="45s")
    async def quick(secret: str = "") -> str:
        return "done"

    assert work
    assert fail
    assert quick
    return mcp


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    return await (await client.call(tool, dict(arguments))).outcome()


@each_era
async def test_a_call_has_one_line_that_says_how_it_ended(lines: Lines, era: str) -> None:
    async with served(noisy_tools()) as wire:
        client = await connect(wire, era)
        await call(client, "quick", secret="hunter2")
        outcome = await call(client, "fail", secret="hunter2")
        # At 2026-07-28 the name is in a header, too, which has no line ends.
        await call(client, "nothing\nforged" if era == "2025" else "nothing")
    good, bad, unknown = lines.calls
    facts = lines.facts
    assert (
        good
        == f"call {facts[0]['reference']} quick by wire 1 completed after 0.000 s, answered as JSON"
    )
    assert bad == (
        f"call {facts[1]['reference']} fail by wire 1 failed after 0.000 s, answered as JSON: "
        "Error executing tool fail: disk is full"
    )
    assert (" nothing\\nforged by " if era == "2025" else " nothing by ") in unknown
    assert "\n" not in unknown
    assert outcome["result"]["_meta"]["headway/reference"] == facts[1]["reference"]
    assert not any("hunter2" in text for text in lines.texts)


@each_era
async def test_a_line_names_the_caller_that_a_token_stands_for(lines: Lines, era: str) -> None:
    async with served(guarded_tools().mcp) as wire:
        if era == "2025":
            session = await Session.open(wire, extra=bearer("alice:1"))
            await (await session.call("whoami")).outcome()
        else:
            modern = Modern(wire)
            await (await modern.post(modern.call_message("whoami"), bearer("alice:1"))).outcome()
    (line,) = lines.calls
    assert " whoami by alice (wire 1) completed after " in line


@each_era
async def test_a_line_says_that_the_answer_was_a_stream_and_who_cancelled(
    lines: Lines, era: str
) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        answer = await client.call("wait", id=7, token="t")
        await answer.message()
        (run,) = wire.app.engine.runs.values()
        run.cancel("operator", "too loud")
        await answer.rest()
    (line,) = lines.calls
    assert line.endswith(", streamed: too loud")
    assert " cancelled after " in line


async def test_a_line_says_that_the_answer_was_a_task(lines: Lines) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(hand_over=5)) as wire:
        client = Modern(wire, TASKS)
        asking = await begin(client, "wait")
        await until(lambda: tools.runs)
        await wire.clock.advance(5)
        assert (await (await asking.answer()).outcome())["result"]["resultType"] == "task"
        tools.gate.open()
        await until(lambda: lines.calls)
    (line,) = lines.calls
    assert line.endswith(" completed after 5.0 s, as a task")


async def test_a_call_that_is_sent_again_names_the_first(lines: Lines) -> None:
    async with served(noisy_tools()) as wire:
        client = Modern(wire)
        for _ in range(2):
            message = client.call_message("work")
            message["params"]["_meta"]["headway/idempotency-key"] = "k"
            await (await client.post(message)).outcome()
    first, again = lines.facts
    assert (first["repeats"], again["repeats"]) == ("", first["reference"])
    assert f" work, which repeats {first['reference']}, by wire 1 completed" in lines.calls[1]


@each_era
async def test_over_stdio_a_call_has_its_line(lines: Lines, era: str) -> None:
    async with piped(noisy_tools()) as client:
        if era == "2025":
            await client.shake_hands()
        await client.call("fail", era=era)
    (line,) = lines.calls
    assert ", over the pipe: Error executing tool fail: disk is full" in line


@each_era
async def test_a_call_for_workers_has_a_line_at_both(
    lines: Lines, era: str, new_redis_url: Callable[[], str]
) -> None:
    async with floor(new_redis_url()) as site:
        await site.worker()
        client = await connect(await site.replica(), era)
        await call(client, "count", upto=1)
        await until(lambda: len(lines.calls) == 2)
    server, worker = sorted(lines.facts, key=lambda facts: facts["answered"] == "")
    assert server["reference"] == worker["reference"]
    assert (server["client"], worker["client"]) == ("wire 1", "wire 1")
    assert (server["end"], worker["end"]) == ("completed", "completed")
    assert (server["repeats"], worker["repeats"]) == ("", "")


async def test_where_nobody_reads_it_no_line_is_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> dict[str, Any]:
        raise AssertionError("a line was made")

    monkeypatch.setattr(end_line, "facts_of", refuse)
    with caplog.at_level(logging.WARNING, "headway"):
        async with served(noisy_tools()) as wire:
            outcome = await call(Modern(wire), "quick")
    assert outcome["result"]["content"][0]["text"] == "done"


async def test_an_app_logs_calls_only_where_its_program_has_named_their_logger(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_line, "_is_asked_for", False)  # else a command ran in this process
    lines = Lines(caplog)
    async with served(noisy_tools()) as wire:
        client = Modern(wire)
        with caplog.at_level(logging.INFO):  # the root logger, as `MCPServer` sets it up
            await call(client, "quick")
        assert lines.facts == []
        for name in ("headway", "headway.calls"):
            with caplog.at_level(logging.INFO, name):
                await call(client, "quick")
    assert [fact["end"] for fact in lines.facts] == ["completed", "completed"]


async def test_refusals_are_told_with_their_limit(lines: Lines) -> None:
    tools = GatedTools("wait")
    settings = Settings(max_runs=1, max_queue=0)
    async with served(tools.mcp, settings=settings) as wire:
        client = Modern(wire)
        going = await client.call("wait", token="t")
        await going.message()
        assert (await client.call("wait")).status == 503
        assert (await wire.ask("POST", {"Host": "evil.example"})).status == 421
        assert (await wire.ask("POST", {"Origin": "https://evil.example"})).status == 403
        assert (await wire.ask("PUT", {})).status == 405  # its client's mistake alone
    busy, host, origin = lines.refusals
    assert busy.startswith("a request was refused with 503 (max_queue): ")
    assert host.startswith("a request was refused with 421: Host 'evil.example'")
    assert origin.startswith("a request was refused with 403: ")


async def test_a_flood_of_refusals_is_a_line_a_second(lines: Lines) -> None:
    async with served(GatedTools("wait").mcp) as wire:
        for number in range(50):
            assert (await wire.ask("POST", {"Host": f"{number}.example"})).status == 421
    assert 1 <= len(lines.refusals) < 20


async def test_a_missing_token_and_a_narrow_one_are_told(lines: Lines) -> None:
    async with served(guarded_tools().mcp) as wire:
        assert (await wire.ask("POST", {})).status == 401
        assert (await wire.ask("POST", bearer("narrow"))).status == 403
    assert lines.refusals == [
        "a request was refused with 401: it has no valid token",
        "a request was refused with 403: its token does not have the scope",
    ]
