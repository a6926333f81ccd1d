"""The requests of both eras as bytes made beforehand; only the request id is filled in later."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

Era = Literal["2025", "2026"]
ERAS: Final[tuple[Era, ...]] = ("2025", "2026")
VERSIONS: Final[dict[Era, str]] = {"2025": "2025-11-25", "2026": "2026-07-28"}
FIRST_ID: Final = 10_000_000
"""Ids have eight digits, so that a request's length does not depend on its id."""

_ID: Final = 99_999_999
_CLIENT: Final = {"name": "bench", "version": "1"}
_META: Final = "io.modelcontextprotocol/"


@dataclass(frozen=True, slots=True)
class Template:
    """One request; the pieces go around its id."""

    pieces: tuple[bytes, ...]

    def fill(self, request_id: int) -> bytes:
        """The bytes to send."""
        return (b"%d" % request_id).join(self.pieces)


@dataclass(frozen=True, slots=True)
class Wire:
    """Makes the requests of one era for one server, and in 2025 for one session."""

    port: int
    era: Era
    session: str | None = None

    def call(self, tool: str, arguments: dict[str, Any], *, progress: bool = False) -> Template:
        """A `tools/call`; its id is its progress token too."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if progress:
            params["_meta"] = {"progressToken": _ID}
        return self._request("tools/call", params, tool)

    def listen(self) -> Template:
        """A subscription (2026)."""
        return self._request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})

    def initialize(self) -> Template:
        """The handshake (2025)."""
        return self._request(
            "initialize",
            {"protocolVersion": VERSIONS["2025"], "capabilities": {}, "clientInfo": _CLIENT},
        )

    def initialized(self) -> bytes:
        """The notification that ends the handshake."""
        return self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, [])

    def get(self) -> bytes:
        """Opens the session's own stream (2025)."""
        return self._head("GET", ["Accept: text/event-stream"])

    def delete(self) -> bytes:
        """Ends the session (2025)."""
        return self._head("DELETE", [])

    def _request(self, method: str, params: dict[str, Any], name: str | None = None) -> Template:
        headers: list[str] = []
        if self.era == "2026":
            headers.append(f"Mcp-Method: {method}")
            if name is not None:
                headers.append(f"Mcp-Name: {name}")
            envelope = {
                f"{_META}protocolVersion": VERSIONS["2026"],
                f"{_META}clientInfo": _CLIENT,
                f"{_META}clientCapabilities": {},
            }
            params = {**params, "_meta": {**envelope, **params.get("_meta", {})}}
        message = {"jsonrpc": "2.0", "id": _ID, "method": method, "params": params}
        return Template(tuple(self._post(message, headers).split(b"%d" % _ID)))

    def _post(self, message: dict[str, Any], headers: list[str]) -> bytes:
        body = json.dumps(message, separators=(",", ":")).encode()
        own = [
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        return self._head("POST", [*own, *headers]) + body

    def _head(self, verb: str, headers: list[str]) -> bytes:
        lines = [f"{verb} /mcp HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers]
        if self.session is not None:
            lines.append(f"Mcp-Session-Id: {self.session}")
        if self.session is not None or self.era == "2026":
            lines.append(f"MCP-Protocol-Version: {VERSIONS[self.era]}")
        return "\r\n".join([*lines, "", ""]).encode()
