"""Scopes of tools: who may call a tool, and by no way in or out gets more than that."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp
import mcp_types as types
import pytest
from fastmcp import FastMCP
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from tests.auth.callers import (
    Known,
    Known2025,
    ask,
    connect,
    keyed,
    listed,
    policy,
    poor,
    rich,
)
from tests.auth.issuer import Issuer, issuing
from tests.kit.http import Answer
from tests.kit.peers import VERSIONS, Modern, Wire, each_era, handle_of, served, text_of
from tests.kit.stdio import piped
from tests.kit.tools import GatedTools
from tests.kit.waits import until, until_seen

from headway import Headway, Settings
from headway.auth import acting_for
from headway.errors import SetupError
from headway.events import encode_json
from headway.tokens import AuthConfig, FileToken, read_auth

pytestmark = pytest.mark.anyio

WHERE = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


# Every kind of server


def with_authors_scopes() -> Headway:
    mcp = Headway("kinds")

    @mcp.tool()
    async def free() -> str:
        return "free"

    @mcp.tool(scopes=["net"])
    async def guarded() -> str:
        return "secret"

    assert free
    assert guarded
    return mcp


def sdk_server() -> MCPServer:
    mcp = MCPServer("kinds")

    @mcp.tool()
    async def free() -> str:
        return "free"

    @mcp.tool()
    async def guarded() -> str:
        return "secret"

    assert free
    assert guarded
    return mcp


def lowlevel_server() -> Server[Any]:
    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        schema = {"type": "object"}
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in ("free", "guarded")]
        )

    async def call_tool(_context: Any, params: Any) -> types.CallToolResult:
        text = "secret" if params.name == "guarded" else "free"
        return types.CallToolResult(content=[types.TextContent(text=text)])

    return Server("kinds", on_list_tools=list_tools, on_call_tool=call_tool)


def fastmcp_server() -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("kinds")

    @mcp.tool()
    async def free() -> str:
        return "free"

    @mcp.tool()
    async def guarded() -> str:
        return "secret"

    assert free
    assert guarded
    return mcp


KINDS: dict[str, tuple[Callable[[], object], bool]] = {
    "the author's own": (with_authors_scopes, False),
    "MCPServer": (sdk_server, True),
    "lowlevel": (lowlevel_server, True),
    "FastMCP": (fastmcp_server, True),
}


@each_era
@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_is_called_and_listed_with_its_scope_only(
    kind: str, era: str, issuer: Issuer
) -> None:
    make, by_operator = KINDS[kind]
    auth = policy(issuer, guarded=("net",)) if by_operator else policy(issuer)
    async with served(make(), auth=auth) as wire:
        client = await connect(wire, era, poor(issuer))
        assert text_of(await (await client.call("free")).outcome()) == "free"
        assert await listed(client) == ["free"]
        refused = await client.call("guarded", id=7)
        assert refused.status == 403
        body = await refused.json()
        assert (body["id"], "result" in body) == (7, False)
        assert body["error"]["data"] == {"error": "insufficient_scope", "scope": "net"}
        better = client.with_token(rich(issuer))
        assert text_of(await (await better.call("guarded")).outcome()) == "secret"
        assert await listed(better) == ["free", "guarded"]


@each_era
async def test_the_refusal_names_all_that_is_needed_and_what_there_is_already(
    era: str, issuer: Issuer
) -> None:
    auth = policy(issuer, guarded=("net", "more"), free=("files",))
    async with served(sdk_server(), auth=auth) as wire:
        client = await connect(wire, era, issuer.token(scope="mcp files net other"))
        refused = await client.call("guarded")
        assert refused.status == 403
        # All of it: a client asks for what is named here, and would lose `files` else.
        assert refused.headers["www-authenticate"] == (
            'Bearer error="insufficient_scope", error_description="guarded needs the scope more, '
            'which the access token does not have", scope="mcp net more files", '
            f'resource_metadata="{WHERE}"'
        )


@each_era
async def test_the_operator_has_the_last_word(era: str, issuer: Issuer) -> None:
    async with served(with_authors_scopes(), auth=policy(issuer, guarded=())) as wire:
        client = await connect(wire, era, poor(issuer))
        assert text_of(await (await client.call("guarded")).outcome()) == "secret"
    async with served(with_authors_scopes(), auth=policy(issuer, guarded=("other",))) as wire:
        client = await connect(wire, era, rich(issuer))
        assert (await client.call("guarded")).status == 403


@each_era
async def test_without_a_token_there_are_no_scopes(era: str) -> None:
    """A server that asks nobody for a token cannot know who has them."""
    async with served(with_authors_scopes()) as wire:
        if era == "2026":
            refused = await Modern(wire).call("guarded")
        else:
            refused = await (await Known2025.open(wire)).call("guarded")
        assert refused.status == 403


# Ways in and out


class Guarded:
    """Alice at a server whose tools need a scope, once without it and once with it."""

    def __init__(self, wire: Wire, tools: GatedTools, poor: Known, rich: Known) -> None:
        self.wire, self.tools, self.poor, self.rich = wire, tools, poor, rich

    async def refused(self, method: str, **params: Any) -> None:
        """See that without the scope it is as if there were nothing, and that with it there is."""
        unknown = await ask(self.poor, method, **params)
        assert unknown["error"]["code"] == -32602, unknown
        assert "run 1" not in json.dumps(unknown)
        known = await ask(self.rich, method, **params)
        assert "error" not in known, known


@asynccontextmanager
async def guarded(
    era: str,
    issuer: Issuer,
    *,
    tools: GatedTools | None = None,
    version: str = "2025-11-25",
    knows_tasks: bool = False,
    **options: Any,
) -> AsyncGenerator[Guarded]:
    tools = tools or GatedTools("wait", "give_part", "ask", "quick")
    auth = policy(issuer, wait=("net",), give_part=("net",), ask=("net",))
    async with served(tools.mcp, auth=auth, **options) as wire:
        how: dict[str, Any] = {"version": version, "knows_tasks": knows_tasks}
        known = await connect(wire, era, rich(issuer), **how)
        yield Guarded(wire, tools, known.with_token(poor(issuer)), known)


@each_era
async def test_an_idempotency_key_gives_no_result_without_the_scope(
    era: str, issuer: Issuer
) -> None:
    async with guarded(era, issuer) as at:
        at.tools.gate.open()
        first = await (await at.rich.post(keyed(at.rich, "wait"))).outcome()
        assert text_of(first) == "run 1"
        refused = await at.poor.post(keyed(at.poor, "wait"))
        assert refused.status == 403
        assert b"run 1" not in await refused.body()
        again = await (await at.rich.post(keyed(at.rich, "wait"))).outcome()
        assert text_of(again) == "run 1"
        assert at.tools.runs == 1


@each_era
async def test_what_a_run_needed_is_kept_where_the_policy_does_not_name_its_tool_any_more(
    era: str, issuer: Issuer, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    async with guarded(era, issuer, journal=journal) as at:
        at.tools.gate.open()
        assert (await at.rich.post(keyed(at.rich, "wait"))).status == 200
    tools = GatedTools("wait")
    tools.gate.open()
    async with served(tools.mcp, auth=policy(issuer), journal=journal) as wire:
        client = await connect(wire, era, poor(issuer))
        refused = await client.post(keyed(client, "wait"))
        assert refused.status == 403
        assert 'scope="mcp net"' in refused.headers["www-authenticate"]
        better = client.with_token(rich(issuer))
        assert text_of(await (await better.post(keyed(better, "wait"))).outcome()) == "run 1"
        assert text_of(await (await client.call("wait")).outcome()) == "run 1"  # of this server
        assert tools.runs == 1


@each_era
async def test_the_policy_of_today_counts_and_not_that_of_the_call(
    era: str, issuer: Issuer, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    tools = GatedTools("wait")
    tools.gate.open()
    async with served(tools.mcp, auth=policy(issuer), journal=journal) as wire:
        client = await connect(wire, era, poor(issuer))
        assert (await client.post(keyed(client, "wait"))).status == 200
    async with guarded(era, issuer, journal=journal) as at:
        assert (await at.poor.post(keyed(at.poor, "wait"))).status == 403
        assert text_of(await (await at.rich.post(keyed(at.rich, "wait"))).outcome()) == "run 1"


async def test_a_task_of_2025_is_unknown_without_the_scope(issuer: Issuer) -> None:
    async with guarded("2025", issuer) as at:
        call = {"name": "wait", "arguments": {}, "task": {"ttl": 60_000}}
        assert (await at.poor.request("tools/call", call)).status == 403
        task = (await ask(at.rich, "tools/call", **call))["result"]["task"]["taskId"]
        await until(lambda: at.tools.runs == 1)
        await at.refused("tasks/get", taskId=task)
        assert (await ask(at.poor, "tasks/cancel", taskId=task))["error"]["code"] == -32602
        assert (await ask(at.poor, "tasks/list"))["result"]["tasks"] == []
        mine = (await ask(at.rich, "tasks/list"))["result"]["tasks"]
        assert [each["taskId"] for each in mine] == [task]
        assert at.tools.stopped == 0
        at.tools.gate.open()
        await at.refused("tasks/result", taskId=task)


async def test_a_task_of_2026_is_unknown_without_the_scope(issuer: Issuer) -> None:
    settings = Settings(hand_over=0.0)
    async with guarded("2026", issuer, settings=settings, knows_tasks=True) as at:
        task = (await (await at.rich.call("ask")).outcome())["result"]["taskId"]

        async def questions() -> dict[str, Any]:
            return (await ask(at.rich, "tasks/get", taskId=task))["result"].get("inputRequests", {})

        (question,) = await until_seen(questions, bool)
        answers = {question: {"action": "accept", "content": {"name": "mallory"}}}
        for method in ("tasks/get", "tasks/cancel"):
            assert (await ask(at.poor, method, taskId=task))["error"]["code"] == -32602
        update = {"taskId": task, "inputResponses": answers}
        assert (await ask(at.poor, "tasks/update", **update))["error"]["code"] == -32602
        assert list(await questions()) == [question]
        wanted = {"notifications": {"taskIds": [task]}}
        ear = await at.poor.request("subscriptions/listen", wanted, id="ear")
        assert (await ear.message())["params"]["notifications"]["taskIds"] == []
        ear = await at.rich.request("subscriptions/listen", wanted, id="ear")
        assert (await ear.message())["params"]["notifications"]["taskIds"] == [task]
        assert "error" not in await ask(at.rich, "tasks/update", **update)


@each_era
async def test_a_handle_leads_nowhere_without_the_scope(era: str, issuer: Issuer) -> None:
    async with guarded(era, issuer, settings=Settings(hand_over=1.0)) as at:
        calling = asyncio.create_task(at.rich.call("wait", id="first"))
        await until(lambda: at.tools.runs == 1)
        await at.wire.clock.advance(2, step=0.25)
        handle = handle_of(await (await calling).outcome())
        at.tools.gate.open()
        for stop in (False, True):
            told = await (
                await at.poor.call("continue_run", {"run_id": handle, "stop": stop})
            ).outcome()
            assert told["result"]["isError"] is True
            assert "No such run" in text_of(told)
        rest = await (await at.rich.call("continue_run", {"run_id": handle})).outcome()
        assert "run 1" in json.dumps(rest)
        assert at.tools.stopped == 0


async def call_with_part(client: Known) -> tuple[Answer, str]:
    """The answer to a call that has given out a part, and the resource of its run."""
    if isinstance(client, Known2025):
        answer = await client.call("give_part", id="parts", token="t")
    else:
        answer = await client.call("give_part", id="parts", level="info")
    while "data" not in (message := await answer.message()).get("params", {}):
        pass
    return answer, message["params"]["_meta"]["headway/run"]


@each_era
async def test_the_resource_of_a_run_is_unknown_without_the_scope(era: str, issuer: Issuer) -> None:
    async with guarded(era, issuer) as at:
        _, uri = await call_with_part(at.rich)
        await at.refused("resources/read", uri=uri)
        if era == "2025":
            await at.refused("resources/subscribe", uri=uri)
            return
        wanted = {"notifications": {"resourceSubscriptions": [uri]}}
        for client, honored in ((at.poor, []), (at.rich, [uri])):
            ear = await client.request("subscriptions/listen", wanted, id="ear")
            said = (await ear.message())["params"]["notifications"]
            assert said.get("resourceSubscriptions", []) == honored


async def test_a_member_of_a_batch_is_refused_by_itself(issuer: Issuer) -> None:
    async with guarded("2025", issuer, version="2025-03-26") as at:
        assert isinstance(at.poor, Known2025)
        members = [
            at.poor.call_message("wait", id="no"),
            at.poor.call_message("quick", id="yes"),
            at.poor.call_message("give_part", id="neither"),
        ]
        answer = await at.poor.post(members)
        assert answer.status == 200
        found = {message["id"]: message for message in await answer.rest()}
        assert text_of(found["yes"]) == "at once"
        for name in ("no", "neither"):
            assert found[name]["error"]["data"]["error"] == "insufficient_scope"
        only = await (await at.poor.post(members[:1])).rest()
        assert [each["error"]["code"] for each in only] == [-32600]
        assert at.tools.runs == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_stream_is_not_resumed_without_the_scope(version: str, issuer: Issuer) -> None:
    async with guarded("2025", issuer, version=version) as at:
        answer, _ = await call_with_part(at.rich)
        place = answer.ids[0]
        answer.cut()
        assert isinstance(at.poor, Known2025)
        assert isinstance(at.rich, Known2025)
        assert (await at.poor.get(place)).status == 400
        at.tools.gate.open()
        resumed = await (await at.rich.get(place)).rest()
        assert text_of(resumed[-1]) == "run 1"
        assert (await at.poor.get(place)).status == 400


async def test_a_running_request_is_not_joined_without_the_scope(issuer: Issuer) -> None:
    async with guarded("2025", issuer) as at:
        message = at.rich.call_message("wait", id="same")
        calling = asyncio.create_task(at.rich.post(message))
        await until(lambda: at.tools.runs == 1)
        assert (await at.poor.post(message)).status == 403
        at.tools.gate.open()
        assert text_of(await (await calling).outcome()) == "run 1"


async def test_a_request_that_waits_for_a_result_is_not_joined_without_the_scope(
    issuer: Issuer,
) -> None:
    async with guarded("2025", issuer) as at:
        assert isinstance(at.rich, Known2025)
        call = {"name": "wait", "arguments": {}, "task": {"ttl": 60_000}}
        task = (await ask(at.rich, "tools/call", **call))["result"]["task"]["taskId"]
        message = at.rich.message("tasks/result", {"taskId": task}, id="r", token="r")
        fetching = await at.rich.post(message)
        await fetching.message()
        assert isinstance(at.poor, Known2025)
        assert (await at.poor.post(message)).status == 403
        at.tools.gate.open()
        assert "run 1" in json.dumps((await fetching.rest())[-1])


@pytest.mark.parametrize("way", ["a task's result", "a handle"])
async def test_what_has_fetched_a_result_is_as_guarded_as_the_result(
    way: str, issuer: Issuer
) -> None:
    """The answer to `tasks/result` and `continue_run` is a stream itself, and can be resumed."""
    settings = Settings(hand_over=1.0) if way == "a handle" else None
    async with guarded("2025", issuer, settings=settings) as at:
        assert isinstance(at.poor, Known2025)
        assert isinstance(at.rich, Known2025)
        if way == "a handle":
            calling = asyncio.create_task(at.rich.call("wait", id="first"))
            await until(lambda: at.tools.runs == 1)
            await at.wire.clock.advance(2, step=0.25)
            handle = handle_of(await (await calling).outcome())
            fetching = await at.rich.call("continue_run", {"run_id": handle}, id="r", token="r")
        else:
            call = {"name": "wait", "arguments": {}, "task": {"ttl": 60_000}}
            task = (await ask(at.rich, "tools/call", **call))["result"]["task"]["taskId"]
            fetching = await at.rich.request("tasks/result", {"taskId": task}, id="r", token="r")
        await fetching.message()
        place = fetching.ids[0]
        at.tools.gate.open()
        assert "run 1" in json.dumps((await fetching.rest())[-1])
        assert (await at.poor.get(place)).status == 400
        assert "run 1" in json.dumps(await (await at.rich.get(place)).rest())


# Where nobody is checked


@each_era
async def test_nobody_is_checked_over_stdio(era: str) -> None:
    async with piped(with_authors_scopes()) as client:
        if era == "2025":
            await client.shake_hands()
        tools = (await client.ask("tools/list", era=era))["result"]["tools"]
        assert {tool["name"] for tool in tools} == {"free", "guarded"}
        assert text_of(await client.call("guarded", era=era)) == "secret"


async def test_nobody_is_checked_in_memory() -> None:
    async with mcp.Client(with_authors_scopes()) as client:
        result = await client.call_tool("guarded", {})
        assert result.content[0].text == "secret"  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_token_that_the_sdk_knows_of_is_checked_in_memory_too() -> None:
    """As behind an app of the SDK's own, which asks for tokens."""
    server = with_authors_scopes()
    for scopes, is_error in ((["use"], True), (["net"], False)):
        token = encode_json({"client_id": "app", "scopes": scopes})
        with acting_for(token):
            async with mcp.Client(server) as client:
                if is_error:
                    with pytest.raises(MCPError, match="guarded needs the scope net"):
                        await client.call_tool("guarded", {})
                else:
                    assert not (await client.call_tool("guarded", {})).is_error


# What is said at the start


AUTH = """\
[auth.tokens.ci]
sha256 = "{}"

[auth.tools]
{} = ["net"]
"""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_that_does_not_exist_is_named_at_the_start(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "auth.toml"
    file.write_text(AUTH.format("0" * 64, "guardet"))
    with pytest.raises(SetupError) as refused:
        async with served(KINDS[kind][0](), auth=read_auth(file)):
            pass
    said = "auth.tools.guardet: kinds has no such tool; did you mean 'guarded'?"
    assert f"{file}:5: {said}" in str(refused.value)
    file.write_text(AUTH.format("0" * 64, "guarded"))
    async with served(KINDS[kind][0](), auth=read_auth(file)):
        pass


async def test_tools_that_cannot_be_listed_stop_no_server(caplog: pytest.LogCaptureFixture) -> None:
    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        raise RuntimeError("not now")

    server = Server("shy", on_list_tools=list_tools)
    auth = AuthConfig(tokens={"ci": FileToken(sha256="0" * 64)}, tools={"any": ("net",)})
    async with served(server, auth=auth):
        assert "[auth.tools] and [limits.tools] are not checked" in caplog.text


@pytest.mark.parametrize("scopes", ["net", ["a b"], [1], ["é"]])
def test_what_is_no_scope_is_refused_where_it_is_written(scopes: Any) -> None:
    with pytest.raises(SetupError, match="tool 'work': scopes"):
        Headway("x").tool(name="work", scopes=scopes)(lambda: None)
