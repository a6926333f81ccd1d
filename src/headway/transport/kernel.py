"""The SDK's kernel behind one face: one server object, one request in, one result out.

The only module that drives `mcp.server.runner`.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.models import InitializationOptions
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import (
    MCP_PARAM_HEADER_PREFIX,
    InboundLadderRejection,
    InboundModernRoute,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    InitializeRequestParams,
)
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.datastructures import Headers

from headway.auth import acting_for
from headway.engine import Execute, RunContext
from headway.errors import ProtocolError
from headway.events import Restartable, decode_json
from headway.protocol.inbound import Message, refusal
from headway.protocol.wrong_params import MANY, first_items, wrong_params

logger = logging.getLogger(__name__)

_PARAM_PREFIX = MCP_PARAM_HEADER_PREFIX.lower()
_LIST_PAGES = 100
_SCHEMAS_KEPT = 1000


class Kernel:
    """One low-level server and the state of its lifespan."""

    def __init__(self, server: Server[Any], options: InitializationOptions | None = None) -> None:
        self.server = server
        self.options = options
        self.state: Any = None
        self._param_headers: dict[int, tuple[Mapping[str, Any], bool]] = {}

    def runner(self, connection: Connection) -> ServerRunner[Any]:
        """What executes the requests of one 2025 session."""
        return ServerRunner(self.server, connection, self.state, init_options=self.options)

    def legacy(self, runner: ServerRunner[Any], message: Message) -> Execute:
        """What executes a 2025 request of a session."""
        method, params = cast("str", message.method), message.params
        return lambda context: self._execute(runner, context, method, params)

    def modern(self, route: InboundModernRoute, message: Message) -> Execute:
        """What executes a 2026-07-28 request, on a connection of its own."""
        method, params = cast("str", message.method), message.params

        async def execute(context: RunContext) -> dict[str, Any]:
            connection = Connection.from_envelope(
                route.protocol_version, route.client_info, route.client_capabilities
            )
            runner = ServerRunner(self.server, connection, self.state)
            try:
                return await self._execute(runner, context, method, params)
            finally:
                # A cached bound method: a cycle for each call, if it stayed.
                vars(runner).pop("on_request", None)
                await aclose_shielded(connection)

        return execute

    def again(self, begun: Restartable) -> Execute:
        """What executes a request that another process accepted."""
        method, params = begun.method, cast("dict[str, Any]", decode_json(begun.params))

        async def execute(context: RunContext) -> dict[str, Any]:
            connection = _connection(begun, params, context)
            try:
                with acting_for(begun.access):
                    runner = self.runner(connection)
                    return await self._execute(runner, context, method, params)
            finally:
                await aclose_shielded(connection)

        return execute

    async def _execute(
        self,
        runner: ServerRunner[Any],
        context: RunContext,
        method: str,
        params: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Execute a request.

        Raises:
            MCPError: Its params are not those of the method; the fields are named.
        """
        try:
            return await runner.on_request(context, method, params)
        except ValidationError as error:
            # Of a hundred thousand wrong values the first few say it as well.
            shown = params if error.error_count() <= MANY else first_items(params)
            fault = self._fault_of(method, runner.connection.protocol_version, shown)
            if fault is None:  # it was the server's own model, of its own data
                raise
            raise wrong_params(fault, shown) from error

    def _fault_of(
        self, method: str, version: str, params: Mapping[str, Any] | None
    ) -> ValidationError | None:
        """Return what is wrong with params by the models of the method; None: nothing is."""
        entry = self.server.get_request_handler(method)
        try:
            with suppress(KeyError):  # no method of this revision
                validate_client_request(method, version, params)
            if entry is not None:
                entry.params_type.model_validate(params or {}, by_name=False)
        except ValidationError as fault:
            return fault
        return None

    async def notify(
        self, runner: ServerRunner[Any], context: RunContext, message: Message
    ) -> None:
        """Hand a client's notification to the server."""
        await runner.on_notify(context, cast("str", message.method), message.params)

    async def check_param_headers(
        self, route: InboundModernRoute, message: Message, headers: Headers, context: RunContext
    ) -> None:
        """Hold `Mcp-Param-*` headers against the called tool's arguments.

        Raises:
            ProtocolError: One of them disagrees with the body.
        """
        arguments: object = (message.params or {}).get("arguments") or {}
        if message.method != "tools/call" or message.target is None:
            return
        if not isinstance(arguments, Mapping):
            return
        if not arguments and not any(name.startswith(_PARAM_PREFIX) for name in headers):
            return
        schema = await self._input_schema(route, message.target, context)
        if schema is None or not self._has_param_headers(schema):
            return
        # Not a dict: two headers of one name must stay two.
        trimmed = Headers(raw=[(name, value.strip()) for name, value in headers.raw])
        verdict = validate_mcp_param_headers(
            schema, cast("Mapping[str, Any]", arguments), cast("Mapping[str, str]", trimmed)
        )
        if isinstance(verdict, InboundLadderRejection):
            raise refusal(verdict)

    def _has_param_headers(self, schema: Mapping[str, Any]) -> bool:
        """Whether a schema mirrors any argument into a header; hardly any does.

        Remembered for the schema object itself, which a server keeps for a tool's life.
        """
        key = id(schema)
        known = self._param_headers.get(key)
        if known is None or known[0] is not schema:
            if len(self._param_headers) >= _SCHEMAS_KEPT:
                self._param_headers.clear()
            known = self._param_headers[key] = (schema, bool(x_mcp_header_map(schema)))
        return known[1]

    async def _input_schema(
        self, route: InboundModernRoute, tool: str, context: RunContext
    ) -> Mapping[str, Any] | None:
        """A tool's input schema, by the server's look-up or by listing what the caller sees.

        A server that cannot list is no reason to refuse a call: then nothing is checked.
        """
        # Servers before mcp 2.3 have no look-up.
        lookup = getattr(self.server, "get_tool_input_schema", None)
        try:
            if lookup is not None:
                return lookup(tool)
            if self.server.get_request_handler("tools/list") is not None:
                return await self._listed_schema(route, tool, context)
        except Exception:  # the server's own code: it may raise anything
            logger.exception("Mcp-Param headers of %r were not checked", tool)
        return None

    async def _listed_schema(
        self, route: InboundModernRoute, tool: str, context: RunContext
    ) -> Mapping[str, Any] | None:
        meta = {
            PROTOCOL_VERSION_META_KEY: route.protocol_version,
            CLIENT_CAPABILITIES_META_KEY: route.client_capabilities,
        }
        if route.client_info is not None:
            meta[CLIENT_INFO_META_KEY] = route.client_info
        params: dict[str, Any] = {"_meta": meta}
        for _ in range(_LIST_PAGES):
            listing = Message({}, "tools/list", 0, params)
            try:
                page = await self.modern(route, listing)(context)
            except (MCPError, ValidationError, ProtocolError):
                return None
            for entry in page.get("tools", []):
                if entry.get("name") == tool:
                    return entry.get("inputSchema")
            if not isinstance(page.get("nextCursor"), str):
                return None
            params = {"_meta": meta, "cursor": page["nextCursor"]}
        return None


def _connection(begun: Restartable, params: Mapping[str, Any], context: RunContext) -> Connection:
    """What its server gets to know of the client of a request that another process accepted."""
    if begun.version in MODERN_PROTOCOL_VERSIONS:
        meta = params.get("_meta", {})
        info, capabilities = meta.get(CLIENT_INFO_META_KEY), meta.get(CLIENT_CAPABILITIES_META_KEY)
        return Connection.from_envelope(begun.version, info, capabilities)
    connection = Connection.for_loop(cast("Any", _Channel(context)), session_id=None)
    if begun.client is not None:
        client = decode_json(begun.client)
        connection.client_params = InitializeRequestParams.model_validate(client, by_name=False)
    connection.protocol_version = begun.version
    connection.initialized.set()
    return connection


class _Channel:
    """What a server says outside of a request, where there is only the request: it goes there."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        await self._context.notify(method, params, opts)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        return await self._context.send_raw_request(method, params, opts)
