"""The official SDK's server, as one object: one request in, one result out.

The only module that drives `mcp.server.runner`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, cast

from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.models import InitializationOptions
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.dispatcher import CallOptions
from mcp.shared.inbound import InboundModernRoute
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    InitializeRequestParams,
)
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from headway.auth import acting_for
from headway.engine import Execute, RunContext, SetVariable, contain_failures, inherit_variables
from headway.events import RequestStored, decode_json
from headway.protocol.eras import MODERN
from headway.protocol.jsonrpc_message import Message
from headway.protocol.wrong_params import MANY, first_items, wrong_params
from headway.transport.http.param_headers import ParamHeaders

_LIST_PAGES = 100

Addition = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Returns the result of a method with what Headway adds. It is called with the revision and the
server's own result, which it must not change: the author may hold it."""


class Sdk:
    """One low-level server and the state of its lifespan."""

    def __init__(
        self,
        server: Server[Any],
        additions: Mapping[str, Addition] | None = None,
        *,
        may_list: bool = True,
    ) -> None:
        """Drive one server object.

        `additions` has, by method, what Headway adds to the server's results. `may_list`: the
        server's tools can be listed without its middleware.
        """
        self.server = server
        self.options: InitializationOptions | None = None
        self.state: Any = None
        self.inherited: Sequence[SetVariable] = ()
        """Context variables that the lifespan has set for the tasks inside."""
        self._additions = additions or {}
        self.param_headers = ParamHeaders(
            # Servers before mcp 2.3 have no look-up.
            lambda: getattr(server, "get_tool_input_schema", None),
            self._list_tools if may_list else None,
        )

    def make_runner(self, connection: Connection) -> ServerRunner[Any]:
        """Return the SDK's runner for the requests of one 2025 session."""
        return ServerRunner(self.server, connection, self.state, init_options=self.options)

    def serve_2025(self, runner: ServerRunner[Any], message: Message) -> Execute:
        """Return the function that executes a 2025 request of a session."""
        method, params = cast("str", message.method), message.params

        async def execute(context: RunContext) -> dict[str, Any]:
            inherit_variables(self.inherited)
            result = await self._run_request(runner, context, method, params)
            return self._with_addition(method, runner.connection.protocol_version, result)

        return execute

    def serve_2026(self, route: InboundModernRoute, message: Message) -> Execute:
        """Return the function that executes a 2026-07-28 request, on a connection of its own."""
        method, params = cast("str", message.method), message.params

        async def execute(context: RunContext) -> dict[str, Any]:
            result = await self._serve_one(self.server, route, context, method, params)
            if method == "tools/list" and context.run is not None:
                self.param_headers.learn_schemas(context.run.request.principal, result.get("tools"))
            return self._with_addition(method, route.protocol_version, result)

        return execute

    def executor_of(self, begun: RequestStored) -> Execute:
        """Return the function that executes a request which another process accepted."""
        method, params = begun.method, cast("dict[str, Any]", decode_json(begun.params))

        async def execute(context: RunContext) -> dict[str, Any]:
            connection = _connection_of(begun, params, context)
            inherit_variables(self.inherited)
            try:
                with acting_for(begun.access):
                    runner = self.make_runner(connection)
                    return await self._run_request(runner, context, method, params)
            finally:
                await aclose_shielded(connection)

        return execute

    async def _run_request(
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
            # The first few of a hundred thousand wrong values are enough for a message.
            shown = params if error.error_count() <= MANY else first_items(params)
            fault = self._fault_of(method, runner.connection.protocol_version, shown)
            if fault is None:  # the server's own model refused the server's own data
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

    async def notify_server(
        self, runner: ServerRunner[Any], context: RunContext, message: Message
    ) -> None:
        """Hand a client's notification to the server."""
        inherit_variables(self.inherited)
        method = cast("str", message.method)
        with contain_failures(method[:100]):
            await runner.on_notify(context, method, message.params)

    async def list_for_start(self) -> list[Any]:
        """Return all tools, of a server that no client has asked.

        Raises:
            Exception: Whatever the server's own code raises.
        """
        route = InboundModernRoute(MODERN.version, None, {})
        transport = TransportContext(kind="start", can_send_request=False)
        return await self._list_tools(
            route, RunContext(0, transport, ServerMessageMetadata(), None, {})
        )

    async def _list_tools(self, route: InboundModernRoute, context: RunContext) -> list[Any]:
        """Return all tools as a client sees them; the server's middleware does not see the call.

        Raises:
            Exception: Whatever the server's own code raises.
        """
        meta = {
            PROTOCOL_VERSION_META_KEY: route.protocol_version,
            CLIENT_CAPABILITIES_META_KEY: route.client_capabilities,
        }
        if route.client_info is not None:
            meta[CLIENT_INFO_META_KEY] = route.client_info
        params: dict[str, Any] = {"_meta": meta}
        tools: list[Any] = []
        unwatched = cast("Server[Any]", _WithoutMiddleware(self.server))
        if self.server.get_request_handler("tools/list") is None:
            return tools
        for _ in range(_LIST_PAGES):
            page = await self._serve_one(unwatched, route, context, "tools/list", params)
            tools += page.get("tools", [])
            if not isinstance(page.get("nextCursor"), str):
                break
            params = {"_meta": meta, "cursor": page["nextCursor"]}
        return tools

    async def _serve_one(
        self,
        server: Server[Any],
        route: InboundModernRoute,
        context: RunContext,
        method: str,
        params: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Execute a request on a connection of its own."""
        connection = Connection.from_envelope(
            route.protocol_version, route.client_info, route.client_capabilities
        )
        runner = ServerRunner(server, connection, self.state)
        inherit_variables(self.inherited)
        try:
            return await self._run_request(runner, context, method, params)
        finally:
            # A cached bound method: a cycle for each call, if it stayed.
            vars(runner).pop("on_request", None)
            if _has_callbacks(connection.exit_stack):
                await aclose_shielded(connection)

    def _with_addition(self, method: str, version: str, result: dict[str, Any]) -> dict[str, Any]:
        """Return the server's result, with what Headway adds to it."""
        add = self._additions.get(method)
        return result if add is None else add(version, result)


def _has_callbacks(stack: AsyncExitStack) -> bool:
    """Return whether something is to be called when the stack is closed; mostly nothing is."""
    return bool(getattr(stack, "_exit_callbacks", True))


class _WithoutMiddleware:
    """A server without its middleware, for what no client has asked."""

    middleware: Final = ()

    def __init__(self, server: Server[Any]) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def _connection_of(
    begun: RequestStored, params: Mapping[str, Any], context: RunContext
) -> Connection:
    """Return the connection that shows the server the client of a stored request."""
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
    """The outbound channel of a lone request: all that is sent goes to the request's stream."""

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
