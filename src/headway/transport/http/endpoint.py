"""Streamable HTTP, all eras on one endpoint.

A request is guarded, read and handed to its era; there it becomes a run of the engine, and the
answer is a cursor on that run. Nothing here waits for a tool, and no tool waits for anything
here.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Receive, Scope, Send

from headway.engine import stopping_error
from headway.errors import JournalUnavailable, ProtocolError, journal_away
from headway.log_lines import quiet_logger
from headway.protocol.eras import ERAS, MODERN
from headway.protocol.jsonrpc_message import (
    Message,
    has_envelope,
    identity_of,
    parse_body,
    read_message,
)
from headway.repeated_log_lines import RefusalLog, limited_logger
from headway.stream_names import SESSION_STREAMS
from headway.transport.http.bearer_challenge import BearerChallenge
from headway.transport.http.browser_page import BrowserPage, is_from_browser
from headway.transport.http.era_2025 import Http2025
from headway.transport.http.era_2026 import Http2026
from headway.transport.http.exchange import Exchange, NotAllowed, Refusal, send_refusal
from headway.transport.http.host_check import Guard
from headway.transport.http.request_body import (
    ClientGone,
    check_content_type,
    check_encoding,
    read_body,
)
from headway.transport.http.request_rates import RequestRates
from headway.transport.http.stateless import Stateless
from headway.transport.http.unfinished_requests import UnfinishedRequests
from headway.transport.open_responses import OpenResponses
from headway.transport.shared_parts import Endpoint

logger = quiet_logger(__name__)


class HttpTransport:
    """The MCP endpoint as an ASGI app."""

    def __init__(
        self, endpoint: Endpoint, guard: Guard, page: BrowserPage, bearer: BearerChallenge
    ) -> None:
        engine, settings = endpoint.engine, endpoint.engine.settings
        self.responses = OpenResponses(
            settings, engine.clock, engine.counters, engine.lease.is_alive
        )
        self.arrivals = UnfinishedRequests(settings.max_arriving, engine.counters)
        self.rates = RequestRates(settings.requests_each, engine.clock)
        self._log = limited_logger(__name__)
        records = engine.services.options.records
        self.refusals = RefusalLog(None if records is None else records.refuse)
        self._engine = engine
        self._settings = settings
        self._guard = guard
        self._page = page
        self._bearer = bearer
        self._http_2026 = Http2026(endpoint, self.responses)
        http_2025 = Stateless if settings.stateless else Http2025
        self._http_2025 = http_2025(endpoint, self.responses, self.refusals)
        endpoint.sessions.broadcasts.on_reader = self.responses.reader_came
        endpoint.sessions.broadcasts.on_reader_left = self.responses.reader_left
        self._methods: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            "POST": self._handle_post,
            "GET": self._handle_get,
            "DELETE": self._handle_delete,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        has_begun = False

        async def send_tracked(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        exchange = Exchange(scope, receive, send_tracked)
        try:
            self._guard.check(exchange.headers)
            if exchange.method != "POST" and _is_for_page(exchange):
                await self._page.send(scope, exchange.headers, send_tracked)
                return
            self.rates.check_rate(exchange)
            handler = self._methods.get(exchange.method)
            if handler is None:
                raise NotAllowed("POST, GET and DELETE are served here", "POST, GET, DELETE")
            await handler(exchange)
        except ProtocolError as error:
            await self.refuse(send, error)
        except JournalUnavailable as error:
            self._log.warning("a request was refused: %s", error)
            await self.refuse(send, journal_away())
        except asyncio.CancelledError:
            # The server of the app stops, and this took longer than a stop may.
            if has_begun or not self._engine.services.lifecycle.is_over:
                raise
            await self.refuse(send, stopping_error())
        except ClientGone:
            logger.debug("the client left before its request was read")

    async def refuse(self, send: Send, error: ProtocolError) -> None:
        """Answer with a refusal, and count it."""
        self._engine.counters.count_refusal(error.status, error.limit)
        self.refusals.tell(error.status, error.limit, error.message)
        await send_refusal(send, error, self._bearer)

    def end_idle_streams(self) -> None:
        """End the streams that wait for news and not for a result: GET and `listen`."""
        self.responses.close_streams(SESSION_STREAMS)
        for run in list(self._engine.runs.values()):
            if run.request.kind.is_endless:
                run.cancel("server", "the server is stopping")

    async def _handle_post(self, exchange: Exchange) -> None:
        check_content_type(exchange.headers)
        check_encoding(exchange.headers)
        # No name here for the body or its value: an answer may last for days, and both with it.
        await self._dispatch_to_era(exchange, await self._read_value(exchange))

    async def _read_value(self, exchange: Exchange) -> object:
        settings = self._settings
        body = await read_body(exchange.headers, exchange.receive, settings, self.arrivals)
        return parse_body(body, settings.max_depth, settings.max_values)

    def _dispatch_to_era(self, exchange: Exchange, value: object) -> Awaitable[None]:
        if _is_modern(exchange.version, value):
            return self._http_2026.handle_post(exchange, _message_of(value))
        if isinstance(value, list):
            return self._http_2025.handle_batch(exchange, cast("list[object]", value))
        return self._http_2025.handle_post(exchange, _message_of(value))

    async def _handle_get(self, exchange: Exchange) -> None:
        if exchange.version == MODERN.version:
            raise NotAllowed("At 2026-07-28 there is no GET; use subscriptions/listen", "POST")
        await self._http_2025.handle_get(exchange)

    async def _handle_delete(self, exchange: Exchange) -> None:
        if exchange.version == MODERN.version:
            raise NotAllowed("At 2026-07-28 there are no sessions to delete", "POST")
        await self._http_2025.handle_delete(exchange)


def _is_for_page(exchange: Exchange) -> bool:
    return not exchange.owner and is_from_browser(exchange.method, exchange.headers)


def _message_of(value: object) -> Message:
    """Return the message that a body is.

    Raises:
        Refusal: The body is no message; the refusal has the id of the request that was meant, where
            it can be told.
    """
    try:
        return read_message(value)
    except ProtocolError as error:
        raise Refusal(error, identity_of(value)) from None


def _is_modern(version: str | None, value: object) -> bool:
    """Return whether a POST belongs to 2026-07-28: by its header, or by its envelope."""
    if version in ERAS:
        return version not in HANDSHAKE_PROTOCOL_VERSIONS
    # An unknown version is refused in the words of the era whose way of naming it was used.
    return has_envelope(value)
