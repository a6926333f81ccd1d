"""The other end of `tools` and `call`: an MCP server by URL, or a target served here.

This module must not know what is done with the connection. Whatever the SDK's client or HTTP
raise becomes an error of `headway.cli.exit_codes`, with a sentence about what to do.
"""

import asyncio
import logging
import sys
import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from http.client import responses
from importlib.metadata import version
from typing import Literal

import httpx2
import mcp_types
from mcp.client.client import Client
from mcp.client.session import ElicitationFnT, LoggingFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from headway.cli.client.http_client import BoundedTransport, ProxyRoute, route_to
from headway.cli.exit_codes import Refused, ToolFailed, Unreachable, root_of
from headway.cli.log_output import setup
from headway.errors import HeadwayError

Era = Literal["2025", "2026"]

MODES = {"2025": "legacy", "2026": "2026-07-28", None: "auto"}

CONNECT = 30.0
"""Seconds until a server that accepts connections must have answered the first request."""

MOST_PAGES = 1000
"""Pages of a list of tools that are asked for."""

MOST_TOOLS = 10_000

GRACE = 2
"""Seconds that a target served here gets to end, once nobody calls it any more."""

ADVICE = {
    401: "it wants authorization; pass --header 'Authorization: Bearer …', or set HEADWAY_TOKEN",
    403: "this caller is not allowed; check --header and the server's allowed hosts",
    404: "no MCP endpoint there; check the path, usually /mcp",
    405: "no MCP endpoint there; check the path, usually /mcp",
    421: "it does not accept this Host; see its --allow-host",
}

ALWAYS = {401, 403, 421}
"""Statuses that are about the caller even with a JSON-RPC error in the body."""


def is_url(text: str) -> bool:
    """Return whether `text` is a URL rather than a TARGET."""
    return text.startswith(("http://", "https://"))


class _Answers:
    """Remembers the last answer to a message: the SDK's errors carry no HTTP status."""

    def __init__(self) -> None:
        self.status = 0
        self.is_json = False

    async def __call__(self, response: httpx2.Response) -> None:
        # Not those to a GET: a 2025 server without a stream of its own refuses it with 405.
        if response.request.method == "POST":
            self.status = response.status_code
            self.is_json = response.headers.get("content-type", "").startswith("application/json")

    @property
    def refuse_all(self) -> bool:
        """Return whether the answer is the server's or a proxy's, not one to this very message."""
        of_protocol = self.is_json and self.status not in ALWAYS
        return self.status >= 500 or (self.status >= 400 and not of_protocol)


@asynccontextmanager
async def connect_peer(
    place: str,
    *,
    era: Era | None = None,
    headers: dict[str, str] | None = None,
    on_log: LoggingFnT | None = None,
    on_question: ElicitationFnT | None = None,
    debug: bool = False,
) -> AsyncGenerator[Client]:
    """A connected client of the server at `place`, a URL or a TARGET that is served meanwhile.

    What a target's tools raise is logged on stderr; with `debug` also how the call got there.

    Raises:
        Refused: The URL, or the proxy that is to be used, makes no sense.
        SetupError: The target cannot be loaded or started.
        Unreachable: Nothing answers, or it is no MCP server that this client can talk to.
    """
    async with AsyncExitStack() as stack:
        served = _served_client(place, debug=debug)
        way = route_to(place if is_url(place) else await stack.enter_async_context(served))
        client = await stack.enter_async_context(
            _connected_client(way, headers or {}, era=era, on_log=on_log, on_question=on_question)
        )
        yield client


@asynccontextmanager
async def _served_client(target: str, *, debug: bool) -> AsyncGenerator[str]:
    from headway.cli.server.http_server import serving
    from headway.cli.target import load_target
    from headway.server import asgi

    setup.configure_logging("warning", folds=not debug)
    # What its author should change is nothing to the one who calls it.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    # Stdout is for the result of the call, whatever the target prints.
    with redirect_stdout(sys.stderr):
        loaded = load_target(target)
        setup.check_log_setup()
        async with serving(asgi(loaded.server, journal="memory:"), grace=GRACE) as origin:
            yield f"{origin}/mcp"


@asynccontextmanager
async def _connected_client(
    way: ProxyRoute,
    headers: dict[str, str],
    *,
    era: Era | None,
    on_log: LoggingFnT | None,
    on_question: ElicitationFnT | None,
) -> AsyncGenerator[Client]:
    # The SDK logs tracebacks of what this module turns into a sentence.
    for name in ("mcp.client", "mcp.shared", "client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    answers, carrier = _Answers(), BoundedTransport(way)
    # Long tools may be silent for long: only connecting and sending have a limit.
    timeout = httpx2.Timeout(CONNECT, read=None)
    try:
        async with (
            httpx2.AsyncClient(
                transport=carrier,
                headers=headers,
                timeout=timeout,
                event_hooks={"response": [answers]},
            ) as wire,
            AsyncExitStack() as stack,
        ):
            client = Client(
                streamable_http_client(way.url, http_client=wire),
                mode=MODES[era],
                log_level="info",
                logging_callback=on_log,
                elicitation_callback=on_question,
                client_info=mcp_types.Implementation(name="headway", version=version("headway")),
            )
            async with asyncio.timeout(CONNECT):
                await stack.enter_async_context(client)
                await _ask_for_logs(client)
            yield client
    except BaseException as error:
        if carrier.refusal is not None and isinstance(error, Exception):
            raise carrier.refusal from error
        raise _translate_errors(root_of(error), way, answers) from error


async def _ask_for_logs(client: Client) -> None:
    """2025 servers send logs to those who set a level; 2026 requests carry theirs."""
    if client.server_capabilities.logging and client.protocol_version < "2026":
        params = mcp_types.SetLevelRequestParams(level="info")
        request = mcp_types.SetLevelRequest(params=params)
        await client.session.send_request(request, mcp_types.EmptyResult)


def _translate_errors(error: BaseException, way: ProxyRoute, answers: _Answers) -> BaseException:
    if isinstance(error, HeadwayError) or not isinstance(error, Exception):
        return error
    if isinstance(error, MCPError):
        return _from_protocol(error, way, answers)
    if isinstance(error, TimeoutError):
        return Unreachable(f"{way} did not answer within {CONNECT:g} s")
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return Refused(f"{way.url} is no URL: {error}")
    if isinstance(error, httpx2.ProxyError | httpx2.ConnectError) and way.proxy:
        return Unreachable(
            f"cannot get to {way.url} through {way.proxy_shown} ({error}); is the proxy running? "
            "NO_PROXY names the hosts that are asked directly"
        )
    if isinstance(error, httpx2.ConnectError):
        return Unreachable(f"cannot connect to {way} ({error}); is the server running there?")
    if isinstance(error, httpx2.HTTPError):
        return Unreachable(f"the connection to {way} failed: {error or type(error).__name__}")
    return ToolFailed(f"{way} answered what the protocol does not allow: {error}")


def _from_protocol(error: MCPError, url: ProxyRoute, answers: _Answers) -> HeadwayError:
    if error.code == mcp_types.CONNECTION_CLOSED:
        return Unreachable(f"the connection to {url} was lost: {error.message}")
    if answers.refuse_all:
        status = answers.status
        advice = ADVICE.get(status, error.message)
        return Unreachable(f"{url} answered HTTP {status} {responses.get(status, '')}: {advice}")
    if error.code == mcp_types.INVALID_PARAMS:
        return Refused(error.message)
    if error.message.startswith("Unexpected content type"):
        return Unreachable(f"{url} is no MCP endpoint ({error.message}); check the path")
    return ToolFailed(error.message)


async def list_tools(client: Client) -> Sequence[mcp_types.Tool]:
    """Return every tool of the server, over all pages."""
    tools: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
        if len(tools) > MOST_TOOLS:
            break
    raise ToolFailed(f"the server's list of tools does not end: {len(tools):,} so far")
