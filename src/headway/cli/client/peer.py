"""The peer of `tools` and `call`: an MCP server by URL, or a target served here.

This module must not know what the connection is used for. Exceptions of the SDK's client and of
HTTP become errors of `headway.cli.exit_codes`, with a sentence about what to do.
"""

import asyncio
import logging
import re
import sys
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import responses
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import httpx2
import mcp_types
from mcp.client.client import Client
from mcp.client.extension import ClientExtension
from mcp.client.session import ElicitationFnT, LoggingFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from headway.cli.client.browser_login import BrowserLogin
from headway.cli.client.http_client import LARGEST, BoundedTransport, ProxyRoute, route_to
from headway.cli.client.message_taps import Look, complete_task, tapped
from headway.cli.client.retry_transport import (
    NO_RETRIES,
    PINGS_MISSED,
    SILENCE_TIMEOUT,
    RetryPolicy,
    RetryTransport,
)
from headway.cli.display.printable import one_line
from headway.cli.exit_codes import Lost, Refused, ToolFailed, Unreachable, root_of
from headway.cli.log_output import setup
from headway.errors import HeadwayError
from headway.protocol import tasks_2025
from headway.protocol.idempotency_key import DURABLE, LONGEST_SILENCE, META_KEY

Era = Literal["2025", "2026"]

MODES = {"2025": "legacy", "2026": "2026-07-28", None: "auto"}

CONNECT = 30.0
"""Seconds until a server that accepts connections must have answered the first request."""

MOST_PAGES = 1000
"""Pages of a list that are requested."""

MOST_LISTED = 10_000
"""Tools, resources or prompts of a list; after them no page is requested."""

GRACE = 2
"""Seconds that a target served here gets to end, once nobody calls it any more."""

ADVICE = {
    401: "it wants authorization; set HEADWAY_TOKEN, pass --header, or log in with --auth oauth",
    403: "this caller is not allowed; check --header and the server's allowed hosts",
    404: "no MCP endpoint there; check the path, usually /mcp",
    405: "no MCP endpoint there; check the path, usually /mcp",
    421: "it does not accept this Host; see its --allow-host",
}

ALWAYS = {401, 403, 421}
"""Statuses that are about the caller even with a JSON-RPC error in the body."""


_NAME = r"[\w-]+(?:\.[\w-]+)"
_ADDRESS = re.compile(rf"(?:\[[0-9a-f:.]+\]|{_NAME}*):\d+(?:/\S*)?|{_NAME}+/(?!\S*\.py\b)\S+")
"""A host with a port, or with a path: a URL whose scheme was left out."""


def _check_no_address(place: str) -> None:
    if _ADDRESS.fullmatch(place) and not Path(place).exists():
        raise Refused(f"{place} is neither a file nor a module; did you mean http://{place} ?")


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
        """Return whether the answer refuses every message, and not only this one."""
        of_protocol = self.is_json and self.status not in ALWAYS
        return self.status >= 500 or (self.status >= 400 and not of_protocol)


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The way a connection is made, and who hears what comes on it."""

    era: Era | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    on_log: LoggingFnT | None = None
    on_question: ElicitationFnT | None = None
    extensions: Sequence[ClientExtension] = ()
    retries: RetryPolicy = NO_RETRIES
    outlasts: bool = False
    """Speak the era in which a call survives most, where the server has several."""
    trace: Look | None = None
    """Sees every message."""
    login: BrowserLogin | None = None
    """Has requests authorized; it is open for as long as the connection is."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected client, and what carries its messages."""

    client: Client
    transport: RetryTransport

    @property
    def knows_keys(self) -> bool:
        """Return whether the server does a call with an idempotency key once."""
        return self.transport.knows_keys

    @property
    def is_2026(self) -> bool:
        """Return whether 2026-07-28 is spoken, or a later revision."""
        return self.client.protocol_version >= "2026"

    @property
    def has_tasks_2025(self) -> bool:
        """Return whether a call may be a task of 2025-11-25."""
        return self.client.protocol_version == tasks_2025.VERSION and has_tasks(
            self.client.server_capabilities.tasks
        )


def has_tasks(offered: mcp_types.ServerTasksCapability | None) -> bool:
    """Return whether a capability offers tools as tasks."""
    requests = offered and offered.requests
    return bool(requests and requests.tools and requests.tools.call is not None)


class Peer:
    """A server that can be connected to, again and again."""

    def __init__(self, way: ProxyRoute, options: ConnectOptions) -> None:
        self._way = way
        self._options = options
        self._mode = MODES[options.era]
        self._was_heard = False

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """A connection; once the server has been heard, it may be away for a while.

        Raises:
            Refused: The URL, or the proxy that is to be used, makes no sense.
            Unreachable: Nothing answers, or it is no MCP server that this client can talk to.
        """
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._connect())
            if self._may_change(connection):
                await stack.aclose()
                self._mode = MODES["2025"]
                connection = await stack.enter_async_context(self._connect())
            yield connection

    def _may_change(self, connection: Connection) -> bool:
        """Return whether the server lasts longer in the other era.

        A lost connection cancels a call of 2026-07-28; there a call is a task after a while only.
        """
        is_free = self._options.outlasts and self._options.era is None
        return is_free and connection.is_2026 and connection.knows_keys

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[Connection]:
        _silence_sdk()
        answers, carrier = _Answers(), BoundedTransport(self._way)
        retries, login = self._options.retries, self._options.login
        sent_by = carrier if login is None else login.over(carrier)
        lasting = RetryTransport(sent_by, str(self._way), retries, was_heard=self._was_heard)
        if login is not None:
            login.on_wait = lambda seconds: lasting.on_wait(seconds)
        is_over, left_by, cancels = False, None, _count_cancels()
        try:
            async with AsyncExitStack() as stack:
                client = self._client(await stack.enter_async_context(self._wire(lasting, answers)))
                async with asyncio.timeout(CONNECT) as limit:
                    lasting.on_wait = partial(_allow_wait, limit)
                    await stack.enter_async_context(client)
                    await _ask_for_logs(client)
                    _take_declaration(lasting, await _declared_keys(client, self._mode))
                lasting.on_wait = _ignore_wait
                self._was_heard = True
                try:
                    yield Connection(client, lasting)
                except BaseException as error:
                    left_by = error
                    raise
                is_over = True
        except BaseException as error:
            # Of what goes wrong while a connection is closed nobody waits for the answer any more.
            if is_over and isinstance(error, Exception):
                return
            # The SDK's transport may fail while it is cancelled: an answer came that nobody takes.
            was_cancelled = left_by is None and _count_cancels() > cancels
            if was_cancelled and isinstance(error, Exception):
                raise asyncio.CancelledError from error
            cause = error if left_by is None or _is_of_scope(left_by) else left_by
            if isinstance(cause, Exception) and (known := carrier.refusal or lasting.trouble):
                raise _with_way(known, cause) from error
            raise _translate_errors(root_of(cause), self._way, answers) from error

    def _wire(self, transport: RetryTransport, answers: _Answers) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=transport,
            headers=dict(self._options.headers),
            # Long tools may be silent for long: only connecting and sending have a limit.
            timeout=httpx2.Timeout(CONNECT, read=None),
            event_hooks={"response": [answers]},
        )

    def _client(self, wire: httpx2.AsyncClient) -> Client:
        streams = streamable_http_client(
            self._way.url, http_client=wire, max_sse_event_size=LARGEST
        )
        if self._options.trace is not None:
            streams = tapped(streams, self._options.trace)
        return Client(
            tapped(streams, complete_task),
            mode=self._mode,
            log_level="info",
            logging_callback=self._options.on_log,
            elicitation_callback=self._options.on_question,
            client_info=mcp_types.Implementation(name="headway", version=version("headway")),
            extensions=self._options.extensions,
        )


def _count_cancels() -> int:
    """Return how often the current task has been asked to end, and not been told otherwise."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _is_of_scope(error: BaseException) -> bool:
    """Return whether it is a cancel of anyio: the connection broke, and its scope says why."""
    text = str(error.args[0]) if error.args else ""
    return isinstance(error, asyncio.CancelledError) and text.startswith(_OF_SCOPE)


_OF_SCOPE = "Cancelled via cancel scope"
"""How anyio marks a cancel that is not the task's own."""


def _allow_wait(limit: asyncio.Timeout, seconds: float) -> None:
    """Give a server its whole time from when it is asked again: it is busy, or away."""
    with suppress(RuntimeError):  # the time is over already
        limit.reschedule(asyncio.get_running_loop().time() + seconds + CONNECT)


def _ignore_wait(_seconds: float) -> None:
    pass


async def _declared_keys(client: Client, mode: str) -> Mapping[str, Any] | None:
    """Return what the server says of idempotency keys; None where it knows none."""
    capabilities: dict[str, Any] = {"experimental": client.server_capabilities.experimental}
    if mode == MODES["2026"]:  # adopted without a word of the server
        with suppress(MCPError):
            capabilities = (await client.session.send_discover(mode)).get("capabilities") or {}
    experimental = cast("Mapping[str, object]", capabilities.get("experimental") or {})
    found = experimental.get(META_KEY)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None


def _take_declaration(transport: RetryTransport, declared: Mapping[str, Any] | None) -> None:
    if declared is None:
        return
    transport.knows_keys = True
    transport.has_durable_keys = declared.get(DURABLE) is True
    silence: object = declared.get(LONGEST_SILENCE, 0)
    if isinstance(silence, int | float):
        transport.silence_timeout = max(SILENCE_TIMEOUT, PINGS_MISSED * silence)


def _with_way(known: HeadwayError, error: Exception) -> HeadwayError:
    """Return what is known of a failure, unless what was raised says more."""
    inner = root_of(error)
    return inner if isinstance(inner, HeadwayError) else known


def _silence_sdk() -> None:
    """The SDK logs tracebacks of what this module turns into a sentence."""
    for name in ("mcp.client", "mcp.shared", "client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@asynccontextmanager
async def connect_peer(
    place: str,
    *,
    era: Era | None = None,
    headers: Mapping[str, str] | None = None,
    asks_login: bool = False,
) -> AsyncGenerator[Client]:
    """Connect a client to the server at `place`: a URL, or a TARGET that is served meanwhile.

    With `asks_login` a person logs in with a browser where the server wants that.

    Raises:
        Refused: The URL, or the proxy that is to be used, makes no sense.
        SetupError: The target cannot be loaded or started.
        Unreachable: Nothing answers, or it is no MCP server that this client can talk to.
    """
    async with (
        reach_server(place) as way,
        opened_login(place, headers or {}, asks=asks_login) as login,
    ):
        peer = Peer(way, ConnectOptions(era=era, headers=headers or {}, login=login))
        async with peer.connect() as connection:
            yield connection.client


@asynccontextmanager
async def opened_login(
    place: str, headers: Mapping[str, str], *, asks: bool
) -> AsyncGenerator[BrowserLogin | None]:
    """The login at the server at `place`: one that was kept, or with `asks` a new one too.

    None where the caller sends its own `Authorization`, or has never logged in.

    Raises:
        Refused: `asks` does not fit to what else is said.
    """
    is_authorized = any(name.lower() == "authorization" for name in headers)
    if asks and (is_authorized or not is_url(place)):
        why = "there is a token already" if is_authorized else "a TARGET needs no login"
        raise Refused(f"--auth oauth has no use here: {why}")
    login = None
    if is_url(place) and not is_authorized:
        login = BrowserLogin(place, may_ask=asks)
    if login is None or not (asks or login.is_kept):
        yield None
        return
    async with login:
        yield login


@asynccontextmanager
async def reach_server(place: str, *, debug: bool = False) -> AsyncGenerator[ProxyRoute]:
    """The way to the server at `place`; a TARGET is served meanwhile.

    Exceptions of a target's tools are logged on stderr; with `debug` all of their frames.

    Raises:
        Refused: The URL, or the proxy that is to be used, makes no sense.
        SetupError: The target cannot be loaded or started.
    """
    if is_url(place):
        yield route_to(place)
        return
    _check_no_address(place)
    async with _served_target(place, debug=debug) as url:
        yield route_to(url)


@asynccontextmanager
async def _served_target(target: str, *, debug: bool) -> AsyncGenerator[str]:
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
        return Refused(f"{way.url_shown} is no URL: {error}")
    if isinstance(error, httpx2.ProxyError | httpx2.ConnectError) and way.proxy:
        return Unreachable(
            f"cannot get to {way.url_shown} through {way.proxy_shown} ({error}); is the proxy "
            "running? NO_PROXY names the hosts that are asked directly"
        )
    if isinstance(error, httpx2.ConnectError):
        return Unreachable(f"cannot connect to {way} ({error}); is the server running there?")
    if isinstance(error, httpx2.HTTPError):
        return Unreachable(f"the connection to {way} failed: {error or type(error).__name__}")
    return ToolFailed(f"{way} answered what the protocol does not allow: {error}")


_LOST = ("SSE stream", "Connection closed")
"""How the SDK's own words for a lost connection begin."""


def _from_protocol(error: MCPError, url: ProxyRoute, answers: _Answers) -> HeadwayError:
    said = one_line(error.message)
    # A server's own errors have that code as well: -32000.
    if error.code == mcp_types.CONNECTION_CLOSED and error.message.startswith(_LOST):
        return Lost(f"the connection to {url} was lost: {said}")
    if answers.refuse_all:
        status = answers.status
        advice = ADVICE.get(status, said)
        return Unreachable(f"{url} answered HTTP {status} {responses.get(status, '')}: {advice}")
    if error.code == mcp_types.INVALID_PARAMS:
        return Refused(error.message)
    if error.message.startswith("Unexpected content type"):
        return Unreachable(f"{url} is no MCP endpoint ({said}); check the path")
    return ToolFailed(error.message)


async def list_tools(client: Client) -> Sequence[mcp_types.Tool]:
    """Return every tool of the server, over all pages."""
    return await _every_page(client.list_tools, "tools")


async def list_resources(
    client: Client,
) -> Sequence[mcp_types.Resource | mcp_types.ResourceTemplate]:
    """Return every resource of the server and every template of some; none where it has none."""
    return [
        *await _if_known(_every_page(client.list_resources, "resources")),
        *await _if_known(_every_page(client.list_resource_templates, "resource_templates")),
    ]


async def list_prompts(client: Client) -> Sequence[mcp_types.Prompt]:
    """Return every prompt of the server; none where it has none."""
    return await _if_known(_every_page(client.list_prompts, "prompts"))


async def _if_known(listed: Awaitable[list[Any]]) -> list[Any]:
    """Return a list, or nothing where the server knows no such method: it need not have one."""
    try:
        return await listed
    except MCPError as error:
        if error.code == mcp_types.METHOD_NOT_FOUND:
            return []
        raise


async def _every_page(fetch: Callable[..., Awaitable[Any]], name: str) -> list[Any]:
    """Return what all pages of a list have; `name` is the field of a page that has it.

    Raises:
        ToolFailed: The list does not end.
    """
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await fetch(cursor=cursor)
        found += getattr(page, name)
        cursor = page.next_cursor
        if cursor is None:
            return found
        if len(found) > MOST_LISTED:
            break
    raise ToolFailed(f"the server's list of {name} does not end: {len(found):,} so far")
