"""What a 2026-07-28 POST says of itself in headers and envelope, and how it is refused."""

import pytest
from tests.kit.peers import META, MODERN, Modern, merge, served, text_of
from tests.wire.echo import echo_server

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("http.headers.case", "http.headers.decoded", era="2026")
@pytest.mark.parametrize(
    "extra",
    [
        {"Mcp-Name": "  routed\t "},
        {"Mcp-Name": "=?base64?cm91dGVk?="},
        {"Mcp-Method": " tools/call ", "MCP-Protocol-Version": f" {MODERN}  "},
        {"Mcp-Param-Text": "  hi "},
        {"Mcp-Param-Text": "=?base64?aGk=?=", "mcp-param-count": " 2"},
        {"Mcp-Param-Count": "2.0"},
        {"Mcp-Param-Other": "of no meaning here"},
        {"Accept": "text/event-stream;q=0.5 , application/*"},
        {"Accept": "*/*"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Mcp-Session-Id": "of no meaning here"},
    ],
)
async def test_headers_that_agree_with_the_body_pass(extra: dict[str, str]) -> None:
    async with served(echo_server()) as wire:
        modern = Modern(wire)
        params = {"name": "routed", "arguments": {"text": "hi", "count": 2}}
        agreeing = {"Mcp-Param-Text": "hi", "Mcp-Param-Count": "2"}
        answer = await modern.post(modern.body("tools/call", params), merge(agreeing, extra))
        assert answer.status == 200, await answer.body()
        assert text_of(await answer.json()) == "hihi"


@pytest.mark.requirement("http.headers.match", era="2026")
@pytest.mark.parametrize(
    "extra",
    [
        {"Mcp-Name": None},
        {"Mcp-Name": "other"},
        {"Mcp-Name": "Routed"},
        {"Mcp-Name": "=?base64?!?="},
        {"Mcp-Method": None},
        {"Mcp-Method": "tools/list"},
        {"MCP-Protocol-Version": None},
        {"Mcp-Param-Text": "ho"},
        {"Mcp-Param-Text": None},
        {"Mcp-Param-Text": "=?base64?aGk?="},
        {"Mcp-Param-Text": "hi\r\nMcp-Param-Text: hi"},
        {"Mcp-Param-Count": "3"},
        {"Mcp-Param-Count": "two"},
    ],
)
async def test_headers_that_disagree_with_the_body_are_refused(
    extra: dict[str, str | None],
) -> None:
    async with served(echo_server()) as wire:
        modern = Modern(wire)
        params = {"name": "routed", "arguments": {"text": "hi", "count": 2}}
        body = modern.body("tools/call", params, id="h")
        agreeing = {"Mcp-Param-Text": "hi", "Mcp-Param-Count": "2"}
        answer = await modern.post(body, {**agreeing, **extra})
        error = await answer.json()
        assert (answer.status, error["id"], error["error"]["code"]) == (400, "h", -32020)


@pytest.mark.requirement("http.headers.match", era="2026")
@pytest.mark.parametrize("name", ["Mcp-Name", "mcp-method", "MCP-Protocol-Version"])
async def test_a_routing_header_given_twice_is_refused(name: str) -> None:
    async with served(echo_server()) as wire:
        modern = Modern(wire)
        body = modern.body("tools/call", {"name": "echo", "arguments": {}})
        head = modern.headers(body)
        value = {key.lower(): value for key, value in head.items()}[name.lower()]
        answer = await modern.post(body, {"X-Pad": f"1\r\n{name.upper()}: {value}"})
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, -32020)
        assert "more than once" in error["message"]


@pytest.mark.requirement("http.method.unknown", era="2026")
async def test_an_unknown_method_is_404() -> None:
    async with served(echo_server()) as wire:
        answer = await Modern(wire).request("no/such", id=4)
        error = await answer.json()
        assert (answer.status, error["id"], error["error"]["code"]) == (404, 4, -32601)


@pytest.mark.requirement("http.method.unknown", era="2026")
@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel"])
async def test_what_the_revision_no_longer_has_is_404(method: str) -> None:
    async with served(echo_server()) as wire:
        answer = await Modern(wire).request(method)
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, -32601)


@pytest.mark.requirement("http.version.unknown", era="2026")
async def test_an_unsupported_version_is_answered_with_the_supported_ones() -> None:
    async with served(echo_server()) as wire:
        modern = Modern(wire)
        body = modern.body("tools/list")
        body["params"]["_meta"][f"{META}protocolVersion"] = "2099-01-01"
        answer = await modern.post(body, {"MCP-Protocol-Version": "2099-01-01"})
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, -32022)
        assert error["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities", None])
async def test_an_envelope_without_its_keys_is_refused_by_name(missing: str | None) -> None:
    async with served(echo_server()) as wire:
        modern = Modern(wire)
        body = modern.body("tools/list")
        if missing is None:
            del body["params"]["_meta"]
        else:
            del body["params"]["_meta"][META + missing]
        answer = await modern.post(body)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, -32602)
        assert (missing or "_meta") in error["message"]


@pytest.mark.requirement("http.get", era="2026")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_only_post_is_allowed(method: str) -> None:
    async with served(echo_server()) as wire:
        headers = {"MCP-Protocol-Version": MODERN, "Accept": "text/event-stream"}
        answer = await wire.ask(method, headers)
        assert answer.status == 405
        assert "POST" in answer.headers["allow"]


@pytest.mark.requirement("http.post.202", "http.post.refused", era="2026")
async def test_a_posted_answer_is_refused_and_a_notification_taken() -> None:
    async with served(echo_server()) as wire:
        modern = Modern(wire)
        refused = await modern.post({"jsonrpc": "2.0", "id": 1, "result": {}})
        assert refused.status == 400
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await modern.post(body)).status == 202
