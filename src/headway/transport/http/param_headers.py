"""`Mcp-Param-*` headers (SEP-2243), checked against the arguments that a tool's schema mirrors
there.

Checking a call must not look like further calls to the author: his middleware counts, logs and
limits requests, and a list of tools may come from another server. So the schema is taken from the
server's own look-up, from a list that a client was sent, or, once for each caller, from a list that
no middleware sees. A schema may be old, so no call is refused by one that was not listed just now.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from mcp.shared.inbound import (
    MCP_PARAM_HEADER_PREFIX,
    InboundLadderRejection,
    InboundModernRoute,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from starlette.datastructures import Headers

from headway.engine import RunContext, contain_failures
from headway.log_lines import quiet_logger
from headway.protocol.jsonrpc_message import Message, refusal_of
from headway.protocol.methods import TOOL_CALL

logger = quiet_logger(__name__)

Schema = Mapping[str, Any]
Lookup = Callable[[str], Schema | None]
Listing = Callable[[InboundModernRoute, RunContext], Awaitable[list[Any]]]
"""Lists a server's tools as the caller of a request sees them."""

_PREFIX: Final = MCP_PARAM_HEADER_PREFIX.lower()

SCHEMAS_KEPT: Final = 10_000
"""Number of tools whose schemas are remembered, those of all callers together."""


class _Call(NamedTuple):
    """A call, and the headers it came with."""

    tool: str
    arguments: dict[str, Any]
    headers: Headers

    def find_mismatch(self, schema: Schema | None) -> InboundLadderRejection | None:
        """Return how the headers contradict the arguments, for a tool of this schema, or None."""
        if schema is None:
            return None
        headers = cast("Mapping[str, str]", self.headers)
        verdict = validate_mcp_param_headers(schema, self.arguments, headers)
        return verdict if isinstance(verdict, InboundLadderRejection) else None


class ParamHeaders:
    """Checks the headers of the calls of one server.

    `lookup` returns the schema of a tool; it is None for a server without a look-up. `listing`
    returns the tools of the server; it is None where they may not be listed.
    """

    def __init__(self, lookup: Callable[[], Lookup | None], listing: Listing | None) -> None:
        self._lookup = lookup
        self._listing = listing
        self._known: dict[tuple[str, str], Schema | None] = {}  # None: the tool mirrors nothing
        self._judged: dict[int, tuple[Schema, bool]] = {}
        self._has_complained = False

    def learn_schemas(self, caller: str, tools: object) -> None:
        """Remember the schemas in a list of tools that a caller was sent, or in a page of it."""
        for tool in cast("list[object]", tools) if isinstance(tools, list) else ():
            match tool:
                case {"name": str(name), "inputSchema": dict()}:
                    schema = cast("dict[str, Schema]", tool)["inputSchema"]
                    self._keep_schema(caller, name, schema if self._is_mirroring(schema) else None)
                case _:
                    pass

    async def check(
        self,
        route: InboundModernRoute,
        message: Message,
        headers: Headers,
        caller: str,
        context: RunContext,
    ) -> None:
        """Check the headers of a call against its arguments.

        Where the tools of a server cannot be listed nothing is checked: that is no reason to refuse
        a call.

        Raises:
            ProtocolError: One of them disagrees with the body.
        """
        tool = message.target
        arguments: object = (message.params or {}).get("arguments") or {}
        if message.method != TOOL_CALL or tool is None or not isinstance(arguments, dict):
            return
        if not arguments and not any(name.startswith(_PREFIX) for name in headers):
            return
        if self._mirrors_nothing(tool):
            return
        # Not a dict: two headers of one name must stay two.
        trimmed = Headers(raw=[(name, value.strip()) for name, value in headers.raw])
        call = _Call(tool, cast("dict[str, Any]", arguments), trimmed)
        verdict = None
        with contain_failures(
            f"Mcp-Param headers of {tool[:100]!r} were not checked: the list of tools"
        ):
            try:
                verdict = await self._find_mismatch(route, call, caller, context)
            except Exception as error:  # noqa: BLE001 - the server's own code: it may raise anything
                self._log_failure(tool, error)
        if verdict is not None:
            raise refusal_of(verdict)

    async def _find_mismatch(
        self, route: InboundModernRoute, call: _Call, caller: str, context: RunContext
    ) -> InboundLadderRejection | None:
        lookup = self._lookup()
        if lookup is not None:
            schema = lookup(call.tool)
            return (
                call.find_mismatch(schema)
                if schema is not None and self._is_mirroring(schema)
                else None
            )
        verdict = call.find_mismatch(self._known.get((caller, call.tool)))
        is_known = (caller, call.tool) in self._known
        if self._listing is None or (is_known and verdict is None):
            return verdict
        self._keep_schema(caller, call.tool, None)
        self.learn_schemas(caller, await self._listing(route, context))
        return call.find_mismatch(self._known.get((caller, call.tool)))

    def _mirrors_nothing(self, tool: str) -> bool:
        """Return whether the look-up says that no argument of a tool is in a header, as of most."""
        lookup = self._lookup()
        try:
            schema = None if lookup is None else lookup(tool)
        except BaseException:  # noqa: BLE001 - where it is asked again, its failures are contained
            return False
        return lookup is not None and (schema is None or not self._is_mirroring(schema))

    def _keep_schema(self, caller: str, tool: str, schema: Schema | None) -> None:
        if len(self._known) >= SCHEMAS_KEPT:
            self._known.clear()
        self._known[caller, tool] = schema

    def _is_mirroring(self, schema: Schema) -> bool:
        """Return whether a schema mirrors any argument into a header; hardly any does.

        Remembered for the schema object itself, which a server keeps for a tool's life.
        """
        known = self._judged.get(id(schema))
        if known is None or known[0] is not schema:
            if len(self._judged) >= SCHEMAS_KEPT:
                self._judged.clear()
            known = self._judged[id(schema)] = (schema, bool(x_mcp_header_map(schema)))
        return known[1]

    def _log_failure(self, tool: str, error: Exception) -> None:
        level = logging.DEBUG if self._has_complained else logging.WARNING
        self._has_complained = True
        logger.log(level, "Mcp-Param headers of %r were not checked", tool, exc_info=error)
