"""What an author said stays as it is: results of any shape, words of errors, what is switched off.

Each object is served by its framework's own app and by Headway, and the same client asks both.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.server import MCPServer
from mcp.server.extension import Extension
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND
from tests.interop.houses import side_by_side
from tests.kit.peers import Modern, Session, connect, each_era, served

from headway import Settings

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

MODE = {"2025": "legacy", "2026": "2026-07-28"}
WORDS = "the shelf is empty: try 'novels'"
REFERENCE = re.compile(r" \(reference [\w-]+\)")
TASKS = {"io.modelcontextprotocol/tasks": {}}


# Results of any shape

TOOL = {"name": "dig", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}}
TEMPLATE = {"name": "book", "uriTemplate": "book://{isbn}"}
ARGUMENT = {"name": "a", "value": "nov"}
PAGE: dict[str, Any] = {"tools": [TOOL]}
NEEDED = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
"""What a result of 2026-07-28 has to say; the SDK takes it out for 2025."""


def of_dicts() -> Server[Any]:
    """A server whose handlers return plain dicts, as the SDK lets them."""

    def always(result: dict[str, Any]) -> Any:
        async def handler(_context: Any, _params: Any) -> dict[str, Any]:
            return {**result, **NEEDED}

        return handler

    return Server(
        "dicts",
        on_list_tools=always(PAGE),
        on_call_tool=always({"content": [], "structuredContent": {"depth": 3}}),
        on_list_resources=always({"resources": [{"name": "book", "uri": "book://1"}]}),
        on_list_resource_templates=always({"resourceTemplates": [TEMPLATE]}),
        on_read_resource=always({"contents": [{"uri": "book://1", "text": "Once upon a time"}]}),
        on_list_prompts=always({"prompts": [{"name": "ask"}]}),
        on_get_prompt=always({"messages": [], "description": "asks"}),
        on_completion=always({"completion": {"values": ["novels"]}}),
    )


async def everything_of(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tools": await client.list_tools(),
        "call": await client.call_tool("dig", {}),
        "resources": await client.list_resources(),
        "templates": await client.list_resource_templates(),
        "book": await client.read_resource("book://1"),
        "prompts": await client.list_prompts(),
        "prompt": await client.get_prompt("ask"),
        "completion": await client.complete(types.PromptReference(name="ask"), ARGUMENT),
    }
    plain = {name: result.model_dump() for name, result in found.items()}
    for tool in plain["tools"]["tools"]:
        tool.pop("execution")  # what Headway adds to a tool of 2025-11-25
    return plain


@each_era
async def test_handlers_that_return_dicts_are_answered_as_by_their_own_app(era: str) -> None:
    async with side_by_side(of_dicts) as urls:
        found: list[dict[str, Any]] = []
        for url in urls:
            async with Client(url, mode=MODE[era]) as client:
                found.append(await everything_of(client))
    assert found[1] == found[0]


@each_era
async def test_what_is_added_to_a_list_is_not_added_to_what_its_author_holds(era: str) -> None:
    async with served(of_dicts(), settings=Settings(hand_over=5)) as wire:
        client = await connect(wire, era)
        for _ in range(2):
            page = (await (await client.request("tools/list")).json())["result"]
            assert [tool["name"] for tool in page["tools"]] == ["dig", "continue_run"]
            assert page["tools"][0]["outputSchema"] != TOOL["outputSchema"]
    assert PAGE == {"tools": [TOOL]}
    assert "execution" not in TOOL


async def test_what_an_author_says_of_a_tool_as_a_task_is_listed_as_he_says_it() -> None:
    async def list_tools(_context: Any, _params: Any) -> Any:
        return {"tools": [{**TOOL, "execution": {"taskSupport": "forbidden"}}, TOOL]}

    async with served(Server("x", on_list_tools=list_tools)) as wire:
        session = await Session.open(wire)
        page = (await (await session.request("tools/list")).json())["result"]
    support = [tool["execution"]["taskSupport"] for tool in page["tools"]]
    assert support == ["forbidden", "optional"]


# Words of errors


def of_words() -> Server[Any]:
    """A server each of whose handlers raises."""

    async def fail(_context: Any, _params: Any) -> Any:
        raise LookupError(WORDS)

    server: Server[Any] = Server(
        "words",
        on_call_tool=fail,
        on_list_tools=fail,
        on_get_prompt=fail,
        on_list_prompts=fail,
        on_read_resource=fail,
        on_list_resources=fail,
        on_completion=fail,
    )
    server.add_request_handler("shop/stock", types.RequestParams, fail)
    return server


ASKED: dict[str, dict[str, Any]] = {
    "tools/call": {"name": "dig", "arguments": {}},
    "prompts/get": {"name": "ask"},
    "resources/read": {"uri": "book://1"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "ask"},
        "argument": ARGUMENT,
    },
    "tools/list": {},
    "shop/stock": {},
}


@pytest.mark.parametrize("method", ASKED)
async def test_what_a_handler_raised_is_told_to_a_2025_client_in_its_own_words(method: str) -> None:
    async with served(of_words()) as wire:
        session = await Session.open(wire)
        error = (await (await session.request(method, ASKED[method])).outcome())["error"]
    # The code is the official SDK's too.
    assert (error["code"], error["message"]) == (0, WORDS)


@pytest.mark.parametrize("method", ASKED)
async def test_what_a_handler_raised_is_not_told_to_a_2026_client(method: str) -> None:
    async with served(of_words()) as wire:
        error = (await (await Modern(wire).request(method, ASKED[method])).outcome())["error"]
    assert error["code"] == -32603
    assert REFERENCE.sub("", error["message"]) == "Internal server error"


@each_era
async def test_a_handler_that_raises_is_answered_as_by_its_own_app(era: str) -> None:
    async def raised_by(url: str) -> list[Any]:
        errors: list[Any] = []
        async with Client(url, mode=MODE[era]) as client:
            for call in (client.get_prompt("ask"), client.read_resource("book://1")):
                with pytest.raises(MCPError) as refusal:
                    await call
                error = refusal.value.error
                errors.append((error.code, REFERENCE.sub("", error.message), error.data))
        return errors

    async with side_by_side(of_words) as (native, ours):
        assert await raised_by(ours) == await raised_by(native)


@pytest.mark.parametrize("raised", [LookupError(), LookupError("")])
async def test_an_exception_without_words_is_told_as_a_reference_into_the_log(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_context: Any, _params: Any) -> Any:
        raise raised

    async with served(Server("x", on_get_prompt=fail)) as wire:
        session = await Session.open(wire)
        error = (await (await session.request("prompts/get", {"name": "a"})).outcome())["error"]
    assert error["code"] == -32603
    reference = REFERENCE.search(error["message"])
    assert reference is not None
    assert reference[0][12:-1] in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [("\ud800 is no character", "\ufffd is no character"), ("x" * 100_000, "x" * 3999 + "…")],
)
async def test_words_that_cannot_go_as_they_are_are_told_as_far_as_they_can(
    text: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "headway.engine")  # a report of the log cannot hold them either

    async def fail(_context: Any, _params: Any) -> Any:
        raise ValueError(text)

    async with served(Server("x", on_get_prompt=fail)) as wire:
        session = await Session.open(wire)
        error = (await (await session.request("prompts/get", {"name": "a"})).outcome())["error"]
    assert error["message"] == told


# What a server can do


async def nothing(_context: Any, _params: Any) -> Any:
    raise NotImplementedError


def with_tools() -> Server[Any]:
    return Server("tools", on_list_tools=nothing, on_call_tool=nothing)


def with_resources() -> Server[Any]:
    return Server("resources", on_list_resources=nothing, on_read_resource=nothing)


def with_subscriptions() -> Server[Any]:
    return Server(
        "subscriptions",
        on_list_resources=nothing,
        on_read_resource=nothing,
        on_subscribe_resource=nothing,
        on_unsubscribe_resource=nothing,
    )


def switched_off() -> MCPServer[Any]:
    return MCPServer("off", subscriptions=False)


class Catalogue(Extension):
    identifier = "com.example/catalogue"

    def settings(self) -> dict[str, Any]:
        return {"suggest": True}


class OwnTasks(Extension):
    identifier = "io.modelcontextprotocol/tasks"

    def settings(self) -> dict[str, Any]:
        return {"list": True}


LOGGING: dict[str, Any] = {"logging": {}}
KEYS: dict[str, Any] = {"durable": False, "longestSilence": 10.0}
WITH_TOOLS: dict[str, Any] = {**LOGGING, "experimental": {"headway/idempotency-key": KEYS}}
ADDED: list[tuple[Callable[[], Any], str, dict[str, Any]]] = [
    (lambda: Server("minimal"), "2025", {}),
    (lambda: Server("minimal"), "2026", {}),
    (with_tools, "2025", WITH_TOOLS),
    (with_tools, "2026", {**WITH_TOOLS, "extensions": TASKS}),
    (with_resources, "2025", LOGGING),
    (with_resources, "2026", LOGGING),
    (with_subscriptions, "2025", LOGGING),
    (switched_off, "2025", WITH_TOOLS),
    (switched_off, "2026", {**WITH_TOOLS, "extensions": TASKS}),
    (
        lambda: MCPServer("extended", extensions=[Catalogue()]),
        "2026",
        {**WITH_TOOLS, "extensions": {"com.example/catalogue": {"suggest": True}, **TASKS}},
    ),
    (lambda: MCPServer("tasks", extensions=[OwnTasks()]), "2026", WITH_TOOLS),
]


@pytest.mark.parametrize(("build", "era", "added"), ADDED)
async def test_a_server_can_what_its_author_says_and_what_headway_makes_work(
    build: Callable[[], Any], era: str, added: dict[str, Any]
) -> None:
    said: list[dict[str, Any]] = []
    async with side_by_side(build) as urls:
        for url in urls:
            mode = "legacy" if era == "2025" else "auto"
            async with Client(url, mode=mode) as client:
                said.append(client.server_capabilities.model_dump(exclude_none=True))
    said[1].pop("tasks", None)  # of 2025-11-25: what every tool may be
    assert said[1] == {**said[0], **added}


class SaysMore(Server[Any]):
    """A server that declares what Headway declares too."""

    def get_capabilities(self, *args: Any, **options: Any) -> types.ServerCapabilities:
        found = super().get_capabilities(*args, **options)
        own = {"headway/idempotency-key": {"mine": True}, "x": {"y": 1}}
        return found.model_copy(update={"experimental": own})


async def test_an_authors_own_experimental_values_stay() -> None:
    server = SaysMore("more", on_list_tools=nothing, on_call_tool=nothing)
    async with served(server) as wire:
        found = await (await Modern(wire).request("server/discover")).json()
    said = found["result"]["capabilities"]["experimental"]
    assert said == {"headway/idempotency-key": {"mine": True}, "x": {"y": 1}}


async def test_keys_outlive_the_server_where_its_journal_does(tmp_path: Path) -> None:
    settings = Settings(ping=120)
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    async with served(with_tools(), settings=settings, journal=journal) as wire:
        found = await (await Modern(wire).request("server/discover")).json()
    said = found["result"]["capabilities"]["experimental"]["headway/idempotency-key"]
    assert said == {"durable": True, "longestSilence": 120}


async def test_no_tasks_are_offered_where_the_operator_wants_none() -> None:
    async with served(with_tools(), settings=Settings(hand_over=float("inf"))) as wire:
        found = await (await Modern(wire).request("server/discover")).json()
    assert "extensions" not in found["result"]["capabilities"]


async def test_a_served_object_says_the_same_of_itself_elsewhere() -> None:
    server = with_tools()
    before = server.get_capabilities(protocol_version="2026-07-28").extensions
    async with served(server):
        pass
    assert server.get_capabilities(protocol_version="2026-07-28").extensions == before


@pytest.mark.parametrize("build", [with_resources, switched_off])
@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
async def test_subscribing_where_nobody_is_told_is_refused_as_by_its_own_app(
    build: Callable[[], Any], method: str
) -> None:
    async with served(build()) as wire:
        session = await Session.open(wire)
        error = (await (await session.request(method, {"uri": "book://1"})).outcome())["error"]
    assert (error["code"], error["data"]) == (METHOD_NOT_FOUND, method)


@pytest.mark.parametrize("stateless", [False, True])
async def test_an_authors_own_subscriptions_are_asked_with_and_without_sessions(
    stateless: bool,
) -> None:
    heard: list[str] = []

    async def hear(_context: Any, params: Any) -> types.EmptyResult:
        heard.append(params.uri)
        return types.EmptyResult()

    server = Server(
        "own",
        on_list_resources=nothing,
        on_read_resource=nothing,
        on_subscribe_resource=hear,
        on_unsubscribe_resource=hear,
    )
    async with served(server, settings=Settings(stateless=stateless)) as wire:
        session = Session(wire, "2025-11-25", "", {}) if stateless else await Session.open(wire)
        for method, uri in (("subscribe", "book://1"), ("unsubscribe", "book://2")):
            answer = await session.request(f"resources/{method}", {"uri": uri})
            assert (await answer.outcome())["result"] == {}
    assert heard == ["book://1", "book://2"]
