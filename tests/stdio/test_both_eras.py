"""What is said over a pipe, in both eras, with a strict client on real pipes."""

from typing import Any

import pytest
from mcp.server.mcpserver import Context
from tests.kit.peers import each_era, text_of
from tests.kit.stdio import META, Client, piped
from tests.kit.tools import GatedTools
from tests.kit.waits import until, until_seen

from headway import Settings, log, part, track

pytestmark = pytest.mark.anyio

INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "again", "version": "1"},
}
TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


def gated_tools() -> GatedTools:
    """Tools that wait and ask, and some that say what a pipe has to carry as it is."""
    tools = GatedTools("wait", "ask", block={"concurrency": 8})
    for tool in (count, double, say_separators, touch):
        tools.mcp.add_tool(tool, name=tool.__name__)
    tools.mcp.resource("note://one", name="note")(lambda: "one")
    return tools


async def count(steps: int = 3) -> str:
    for step in track(range(steps), message="Step {item}"):
        log(f"at {step}", "warning")
        part({"step": step})
    return f"counted to {steps}"


async def double(text: str) -> str:
    return text * 2


async def say_separators() -> str:
    log("a\u2028b\u2029c\u0085d")
    return "one\u2028two\u2029three\u0085four\nfive\r\n\udcff"


async def touch(ctx: Context[Any, Any]) -> str:
    await ctx.notify_resource_updated("note://one")
    return "touched"


async def ready(client: Client, era: str) -> None:
    if era == "2025":
        await client.shake_hands()


def progress_of(client: Client) -> list[tuple[Any, float]]:
    return [
        (m["params"]["progressToken"], m["params"]["progress"])
        for m in client.heard
        if m.get("method") == "notifications/progress"
    ]


@pytest.mark.requirement("progress.increases", "progress.stops")
@each_era
async def test_a_call_reports_logs_and_answers_on_its_own_id(era: str):
    async with piped(gated_tools().mcp, Settings(progress_rate=0)) as client:
        await ready(client, era)
        assert text_of(await client.call("count", era=era, id="c", token=7, level="info")) == (
            "counted to 3"
        )
        shown = progress_of(client)
        assert {token for token, _ in shown} == {7}
        values = [value for _, value in shown]
        assert values == sorted(set(values))
        assert values[-1] == 3
        loggers = [
            m["params"].get("logger")
            for m in client.heard
            if m.get("method") == "notifications/message"
        ]
        assert loggers.count("headway.part") == loggers.count(None) == 3
        assert client.heard[-1]["id"] == "c"


@pytest.mark.requirement("progress.token")
@each_era
async def test_without_a_token_there_is_no_progress(era: str):
    async with piped(gated_tools().mcp) as client:
        await ready(client, era)
        await client.call("count", era=era)
        assert progress_of(client) == []


async def test_both_eras_share_one_pipe_at_the_same_time():
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        answer = await client.ask("server/discover", era="2026")
        assert "2026-07-28" in answer["result"]["supportedVersions"]
        assert (await client.shake_hands())["protocolVersion"] == "2025-11-25"
        first = await client.start("wait", era="2025", id=10, token="old")
        second = await client.start("wait", era="2026", id=11, token="new")
        await client.until(lambda m: m.get("params", {}).get("progressToken") == "old")
        await client.until(lambda m: m.get("params", {}).get("progressToken") == "new")
        tools.gate.open()
        assert text_of(await client.answer(first)) == "run 1"
        answer = await client.answer(second)
        assert text_of(answer) == "run 2"
        assert answer["result"]["resultType"] == "complete"


@pytest.mark.requirement("cancel.stops", "cancel.silent")
@each_era
async def test_a_cancelled_request_stops_and_says_nothing_more(era: str):
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        await ready(client, era)
        await client.start("wait", era=era, id="h", token="h")
        await client.method("notifications/progress")
        await client.notify("notifications/cancelled", {"requestId": "h", "reason": "enough"})
        await until(lambda: tools.stopped)
        heard = len(client.heard)
        await client.ask("tools/list", era=era, id="after")
        assert [m.get("id") for m in client.heard[heard:]] == ["after"]


async def test_a_cancelled_id_may_be_used_again():
    async with piped(gated_tools().mcp) as client:
        await client.start("wait", era="2026", id=1)
        await client.notify("notifications/cancelled", {"requestId": 1})
        assert text_of(await client.call("count", era="2026", id=1)) == "counted to 3"


@pytest.mark.requirement("logging.level", era="2025")
async def test_a_2025_level_holds_for_the_session():
    async with piped(gated_tools().mcp) as client:
        await client.shake_hands()
        assert "result" in await client.ask("logging/setLevel", {"level": "error"})
        await client.call("count")
        assert not [m for m in client.heard if m.get("method") == "notifications/message"]


async def test_a_2025_server_asks_and_the_answer_comes_back_on_the_pipe():
    async with piped(gated_tools().mcp) as client:
        await client.shake_hands(capabilities={"elicitation": {}})
        identity = await client.start("ask")
        question = await client.method("elicitation/create")
        assert question["params"]["message"] == "Who are you?"
        result = {"action": "accept", "content": {"name": "Ada"}}
        await client.say({"jsonrpc": "2.0", "id": question["id"], "result": result})
        assert text_of(await client.answer(identity)) == "Hello Ada"


@pytest.mark.requirement("stdio.no-requests", era="2026")
async def test_a_2026_server_never_sends_a_request():
    async with piped(gated_tools().mcp) as client:
        await client.call("ask", era="2026", capabilities={"elicitation": {}})
        assert not [m for m in client.heard if "method" in m and "id" in m]


async def test_a_2025_subscriber_hears_of_its_resource():
    async with piped(gated_tools().mcp) as client:
        await client.shake_hands()
        await client.ask("resources/subscribe", {"uri": "note://one"})
        await client.call("touch")
        update = await client.method("notifications/resources/updated")
        assert update["params"]["uri"] == "note://one"


@pytest.mark.requirement(
    "subscriptions.requested", "subscriptions.acknowledged", "subscriptions.closure", era="2026"
)
async def test_a_2026_listener_hears_with_its_id_and_is_closed_in_order():
    async with piped(gated_tools().mcp) as client:
        wanted = {"notifications": {"resourceSubscriptions": ["note://one"]}}
        await client.begin("subscriptions/listen", wanted, era="2026", id="ear")
        ack = await client.method("notifications/subscriptions/acknowledged")
        assert ack["params"]["_meta"][f"{META}subscriptionId"] == "ear"
        await client.call("touch", era="2026")
        update = await client.method("notifications/resources/updated")
        assert update["params"]["_meta"][f"{META}subscriptionId"] == "ear"
        client.close()
        end = await client.answer("ear")
        assert end["result"]["_meta"][f"{META}subscriptionId"] == "ear"


@pytest.mark.requirement("tasks.get", era="2026")
async def test_a_call_that_outlasts_its_window_goes_on_as_a_task():
    tools = gated_tools()
    async with piped(tools.mcp, Settings(hand_over=0)) as client:
        options: dict[str, Any] = {"era": "2026", "capabilities": TASKS}
        task = (await client.call("wait", **options))["result"]
        assert task["resultType"] == "task"
        tools.gate.open()
        ended = await until_seen(
            lambda: client.ask("tasks/get", {"taskId": task["taskId"]}, **options),
            lambda state: state["result"]["status"] == "completed",
        )
        assert text_of(ended["result"]) == "run 1"


async def test_2025_03_26_has_batches_and_later_revisions_have_none():
    async with piped(gated_tools().mcp) as client:
        await client.shake_hands("2025-03-26")
        batch = [client.message("tools/list", id="a"), client.message("ping", id="b")]
        await client.say(batch)
        assert "tools" in (await client.answer("a"))["result"]
        assert (await client.answer("b"))["result"] == {}
        await client.ask("initialize", INITIALIZE)
        await client.say(batch)
        assert "one message" in (await client.answer(None))["error"]["message"]


@each_era
async def test_the_same_request_twice_is_one_and_another_one_with_its_id_is_refused(era: str):
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        await ready(client, era)
        call = client.message("tools/call", {"name": "wait", "arguments": {}}, era=era, id="s")
        await client.say(call)
        await client.say(call)
        await client.say(client.message("tools/list", era=era, id="s"))
        refusal = await client.answer(None)
        assert "still in use" in refusal["error"]["message"]
        tools.gate.open()
        assert text_of(await client.answer("s")) == "run 1"
        await client.ask("tools/list", era=era, id="last")
        assert [m["id"] for m in client.heard if "result" in m].count("s") == 1


@pytest.mark.requirement("json.utf-8", "stdio.lines")
@each_era
async def test_line_separators_are_escaped(era: str):
    async with piped(gated_tools().mcp) as client:  # the client refuses them unescaped
        await ready(client, era)
        answer = await client.call("say_separators", era=era, level="debug")
        assert text_of(answer).startswith("one\u2028two\u2029three\u0085four\nfive\r\n")


@each_era
async def test_megabytes_go_both_ways(era: str):
    text = "x" * 1_000_000
    async with piped(gated_tools().mcp) as client:
        await ready(client, era)
        assert text_of(await client.call("double", {"text": text}, era=era)) == text * 2


async def test_eight_blocked_threads_block_nobody_and_the_ninth_hears_its_place():
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        await client.shake_hands()
        for number in range(8):
            await client.start("block", id=f"b{number}")
        await until(lambda: tools.runs == 8)
        await client.start("block", id="ninth", token="ninth")
        place = await client.method("notifications/progress")
        assert "0 ahead" in place["params"]["message"]
        assert "tools" in (await client.ask("tools/list"))["result"]
        assert (await client.ask("ping"))["result"] == {}
        tools.gate.open()
        assert text_of(await client.answer("ninth")) == "run 9"


async def test_a_ping_before_the_handshake_is_answered_and_nothing_else():
    async with piped(gated_tools().mcp) as client:
        assert (await client.ask("ping"))["result"] == {}
        refusal = await client.ask("tools/list")
        assert "initialize" in refusal["error"]["message"]


async def test_a_second_handshake_begins_a_new_session():
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        await client.shake_hands()
        await client.start("wait", id="h")
        await until(lambda: tools.runs)
        again = client.message("initialize", INITIALIZE, id="again")
        await client.say(again)
        assert (await client.answer("again"))["result"]["protocolVersion"] == "2025-06-18"
        await until(lambda: tools.stopped)
        assert text_of(await client.call("count")) == "counted to 3"


async def test_requests_beyond_all_limits_are_refused_one_by_one():
    tools = gated_tools()
    async with piped(tools.mcp, Settings(max_runs=1, max_queue=1)) as client:
        await client.shake_hands()
        await client.start("wait", id=1, token=1)
        await client.method("notifications/progress")
        await client.start("wait", id=2)
        refusal = await client.ask("tools/list", id=3)
        assert "2 requests are open" in refusal["error"]["message"]
        tools.gate.open()
        assert text_of(await client.answer(2)) == "run 2"
        assert "result" in await client.ask("tools/list", id=4)


@pytest.mark.requirement("cancel.races", "cancel.invalid", era="2025 2026")
async def test_calls_cancelled_at_every_moment_leave_nothing_open():
    tools = gated_tools()
    async with piped(tools.mcp, Settings(max_runs=5, progress_rate=0)) as client:
        await client.shake_hands()
        for number in range(60):
            era, tool = ("2025", "2026")[number % 2], ("wait", "count")[number // 2 % 2]
            await client.start(tool, era=era, id=number, token=number)
            if number % 5 == 0:
                await client.ask("ping", id=f"between {number}")
            await client.notify("notifications/cancelled", {"requestId": number})
        again = [await client.start("count", id=number) for number in range(60)]
        for identity in again:
            await client.until(lambda m, i=identity: m.get("id") == i and "result" in m)
        errors = [m for m in client.heard if "error" in m]
        assert errors == []


@each_era
async def test_a_long_call_is_answered_with_a_handle_and_the_rest_is_fetched(era: str) -> None:
    tools = gated_tools()
    async with piped(tools.mcp, Settings(hand_over=0.05)) as client:
        if era == "2025":
            await client.shake_hands()
        first = (await client.call("wait", era=era))["result"]
        assert first["structuredContent"]["state"] == "working"
        tools.gate.open()
        handle = {"run_id": first["structuredContent"]["run_id"]}
        rest = (await client.call("continue_run", handle, era=era))["result"]
        assert rest["content"][0]["text"] == "run 1"


@each_era
async def test_a_call_with_a_key_is_executed_once(era: str) -> None:
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        if era == "2025":
            await client.shake_hands()
        for identity in ("a", "b"):
            message = client.message(
                "tools/call", {"name": "wait"}, era=era, id=identity, token=identity
            )
            message["params"]["_meta"]["headway/idempotency-key"] = "k"
            await client.say(message)
            await client.until(
                lambda m, token=identity: m.get("params", {}).get("progressToken") == token
            )
        tools.gate.open()
        for identity in ("a", "b"):
            result = (await client.answer(identity))["result"]
            assert result["content"][0]["text"] == "run 1"
        assert tools.runs == 1


@pytest.mark.requirement("tasks-2025.created", "tasks-2025.result", era="2025")
async def test_a_task_of_2025_over_a_pipe() -> None:
    tools = gated_tools()
    async with piped(tools.mcp) as client:
        await client.shake_hands()
        created = await client.ask("tools/call", {"name": "wait", "task": {"ttl": 1000}})
        task = {"taskId": created["result"]["task"]["taskId"]}
        assert (await client.ask("tasks/get", task))["result"]["status"] == "working"
        tools.gate.open()
        result = (await client.ask("tasks/result", task))["result"]
        assert result["content"][0]["text"] == "run 1"
