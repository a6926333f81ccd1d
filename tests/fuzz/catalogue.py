"""Valid requests of every kind: what mutations start from.

A `World` is what a client of a running server holds: its sessions, a task, a run, event ids. An
input that names one of them is written down with the name of it (`{{session-2025-11-25}}`), and so
means the same against another server.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.kit.peers import META, MODERN, VERSIONS

TASKS = "io.modelcontextprotocol/tasks"
ACCEPT = "application/json, text/event-stream"
ACCEPTED = {"action": "accept", "content": {"text": "me"}}
EVERYTHING: dict[str, Any] = {
    "elicitation": {"form": {}},
    "sampling": {},
    "roots": {},
    "extensions": {TASKS: {}},
}


@dataclass
class World:
    """What a client may name: where the server is, and what it knows of it."""

    port: int
    names: dict[str, str] = field(default_factory=dict[str, str])

    def __getitem__(self, name: str) -> str:
        return self.names.get(name, f"no-{name}")

    def hide(self, data: bytes) -> bytes:
        """Bytes with names in place of what only this server knows."""
        for name, value in self._known():
            data = data.replace(value, b"{{%b}}" % name)
        return data

    def fill(self, data: bytes) -> bytes:
        """The inverse of `hide`, for this server."""
        for name, value in self._known():
            data = data.replace(b"{{%b}}" % name, value)
        return data

    def _known(self) -> list[tuple[bytes, bytes]]:
        known = {**self.names, "host": f"127.0.0.1:{self.port}"}
        # Longest first: an event id holds a run's.
        pairs = sorted(known.items(), key=lambda item: -len(item[1]))
        return [(name.encode(), value.encode()) for name, value in pairs if value]


@dataclass
class Request:
    """An HTTP request in pieces; `body` is None, JSON to be written, or bytes."""

    method: str
    headers: list[tuple[str, str]]
    body: Any = None
    path: str = "/mcp"
    trailers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


OFFERS = [
    [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAAB")],
    [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Version", "13")],
    [("Connection", "keep-alive, Upgrade"), ("Upgrade", "TLS/1.3")],
    [("Connection", "Upgrade"), ("Upgrade", "a"), ("Upgrade", "b, c/1"), ("Upgrade", "")],
]
"""Other protocols that a request may offer; none of them is spoken."""

TRAILERS = [
    [("Host", "evil.example")],
    [("Content-Type", "text/plain"), ("Accept", "text/plain"), ("Authorization", "Bearer x")],
    [("Mcp-Session-Id", "x"), ("MCP-Protocol-Version", "2026-07-28"), ("Idempotency-Key", "k")],
    [("Content-Length", "5")],
    [("X", "y" * 70_000)],
    [("X", "y")] * 20_000,
    [("Expect", "100-continue"), ("Connection", "close"), ("Upgrade", "h2c")],
]
"""What may come behind a body in chunks; none of it means anything."""

STUFFING = {
    "wide": lambda n: "[" + "[]," * n + "[]]",
    "wide and deep": lambda n: "[" + ("[" * 50 + "]" * 50 + ",") * (n // 50) + "0]",
    "scalars": lambda n: "[" + "null," * n + "0]",
    "objects": lambda n: '{"a":' * 20 + '{"b":[' + "{}," * n + "{}]}" + "}" * 20,
    "text": lambda n: '"' + '[{\\",' * n + '"',
    "strings": lambda n: "[" + '"[",' * n + '""]',
    "half characters": lambda n: '"' + "\\ud83d" * min(n, 5) + '"',
}
"""JSON that is easy to send and hard to hold, with about so many values."""


def stuffing(rng: Random) -> str:
    """A value that fits into a body, and often not into what is taken apart."""
    return rng.choice([*STUFFING.values()])(rng.choice([10, 1000, 40_000, 120_000]))


def calls(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Methods and their params, for any era."""
    run = f"headway://runs/{world['run']}"
    return [
        ("ping", {}),
        ("tools/list", {}),
        ("tools/list", {"cursor": "bmV4dA=="}),
        *(("tools/call", {"name": name, "arguments": given}) for name, given in _TOOL_CALLS),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("resources/read", {"uri": "fuzz://one"}),
        ("resources/read", {"uri": "fuzz://many/x"}),
        ("resources/read", {"uri": run}),
        ("prompts/list", {}),
        ("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}}),
        (
            "completion/complete",
            {
                "ref": {"type": "ref/prompt", "name": "greet"},
                "argument": {"name": "name", "value": "A"},
            },
        ),
        ("tasks/get", {"taskId": world["task"]}),
        ("tasks/cancel", {"taskId": world["task"]}),
    ]


_TOOL_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("add", {"a": 1, "b": 2}),
    ("echo", {"value": {"x": [1, 2.5, "text", None, True]}}),
    ("say", {"text": "hello", "times": 3}),
    ("count", {"to": 3.0}),
    ("fail", {"text": "no"}),
    ("ask", {"question": "who?"}),
    ("later", {"seconds": 0.01}),
    ("sabotage", {"way": "exit"}),
    ("sabotage", {"way": "cancel"}),
    ("sabotage", {"way": "leak"}),
    ("sabotage", {"way": "base"}),
    ("sabotage", {"way": "hold"}),
]


def calls_2025(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What only a 2025 client says."""
    run = f"headway://runs/{world['run']}"
    return [
        ("initialize", handshake("2025-11-25")),
        ("resources/subscribe", {"uri": run}),
        ("resources/unsubscribe", {"uri": run}),
        ("logging/setLevel", {"level": "debug"}),
        ("tasks/list", {}),
        ("tasks/result", {"taskId": world["old-task"]}),
        ("tasks/get", {"taskId": world["old-task"]}),
        ("tools/call", {"name": "say", "arguments": {"text": "task"}, "task": {"ttl": 1000}}),
    ]


def calls_2026(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What only a 2026 client says."""
    run = f"headway://runs/{world['run']}"
    listening = {"toolsListChanged": True, "resourceSubscriptions": [run, "fuzz://one"]}
    return [
        ("server/discover", {}),
        ("subscriptions/listen", {"notifications": listening}),
        ("subscriptions/listen", {"notifications": {"taskIds": [world["task"]]}}),
        (
            "tasks/update",
            {"taskId": world["asked"], "inputResponses": {world["input"]: ACCEPTED}},
        ),
        ("tasks/get", {"taskId": world["asked"]}),
        (
            "tools/call",
            {"name": "ask", "arguments": {"question": "?"}, "inputResponses": {"q": {}}},
        ),
    ]


NOTIFICATIONS: list[tuple[str, dict[str, Any]]] = [
    ("notifications/initialized", {}),
    ("notifications/cancelled", {"requestId": 1, "reason": "enough"}),
    ("notifications/progress", {"progressToken": 1, "progress": 0.5, "total": 1}),
    ("notifications/roots/list_changed", {}),
]


def handshake(version: str) -> dict[str, Any]:
    """The params of `initialize`."""
    return {
        "protocolVersion": version,
        "capabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
        "clientInfo": {"name": "fuzz", "version": "1"},
    }


def envelope(params: dict[str, Any]) -> dict[str, Any]:
    """Params as 2026-07-28 wants them."""
    meta = {
        f"{META}protocolVersion": MODERN,
        f"{META}clientCapabilities": EVERYTHING,
        f"{META}clientInfo": {"name": "fuzz", "version": "1"},
        f"{META}logLevel": "debug",
        **params.get("_meta", {}),
    }
    return {**params, "_meta": meta}


def message(rng: Random, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A request, often with a progress token."""
    identity = rng.choice([rng.randrange(10**9), f"id-{rng.randrange(10**9)}"])
    if rng.random() < 0.4:
        params = {**params, "_meta": {**params.get("_meta", {}), "progressToken": identity}}
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}


def any_message(rng: Random, world: World) -> tuple[str, Any]:
    """A version and a valid message of it, or a batch where there are batches."""
    kind = rng.random()
    if kind < 0.4:
        method, params = rng.choice(calls(world) + calls_2026(world))
        return MODERN, message(rng, method, envelope(params))
    version = rng.choice(VERSIONS)
    if kind < 0.5:
        method, params = rng.choice(NOTIFICATIONS)
        return version, {"jsonrpc": "2.0", "method": method, "params": params}
    if kind < 0.54:
        return "2025-11-25", {"jsonrpc": "2.0", "id": world["question"], "result": ACCEPTED}
    known = calls(world) + calls_2025(world)
    if kind < 0.6:
        chosen = [rng.choice(known) for _ in range(rng.randrange(1, 4))]
        return "2025-03-26", [message(rng, method, params) for method, params in chosen]
    method, params = rng.choice(known)
    return version, message(rng, method, params)


def any_request(rng: Random, world: World) -> Request:
    """A valid HTTP request."""
    kind = rng.random()
    if kind < 0.12:
        return _without_body(rng, world)
    version, body = any_message(rng, world)
    headers = [
        ("Host", f"127.0.0.1:{world.port}"),
        ("Accept", ACCEPT),
        ("Content-Type", "application/json"),
        ("MCP-Protocol-Version", version),
    ]
    if version == MODERN:
        headers.append(("Mcp-Method", body["method"]))
        params = body["params"]
        name = params.get("name") or params.get("uri") or params.get("taskId")
        if name is not None:
            headers.append(("Mcp-Name", name))
    elif not (isinstance(body, dict) and body.get("method") == "initialize"):
        headers.append(("Mcp-Session-Id", world[f"session-{version}"]))
    if rng.random() < 0.1:
        headers.append(("Idempotency-Key", f"key-{rng.randrange(50)}"))
    if rng.random() < 0.1:
        headers.append(("Origin", f"http://localhost:{world.port}"))
    return Request("POST", headers, body)


def _without_body(rng: Random, world: World) -> Request:
    version = rng.choice(VERSIONS)
    headers = [
        ("Host", f"127.0.0.1:{world.port}"),
        ("Accept", ACCEPT),
        ("MCP-Protocol-Version", version),
        ("Mcp-Session-Id", world[f"session-{version}"]),
    ]
    if rng.random() < 0.1:
        return Request("DELETE", headers)
    if rng.random() < 0.8:
        headers.append(("Last-Event-ID", rng.choice([world["event"], world["own-event"]])))
    return Request("GET", headers)
