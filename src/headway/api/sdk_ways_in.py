"""The ways in that an `MCPServer` has of its own, with the SDK's options, as Headway's.

A program that was written for the SDK keeps its last line: `mcp.run("streamable-http", port=9000)`.
The SDK's options become Headway's; those that mean nothing here are logged once.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final, Literal, Protocol, TypedDict

from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from headway.log_lines import quiet_logger
from headway.settings import Settings

logger = quiet_logger(__name__)

_YEAR: Final = 365 * 86400.0

_NOT_NEEDED: Final[Mapping[str, str]] = {
    "json_response": "an answer is JSON where nothing is said before it, and a stream otherwise",
    "event_store": "every stream can be resumed, from the journal",
}


class AppOptions(TypedDict, total=False):
    """How a server is to be served, in Headway's words."""

    path: str
    settings: Settings


def read_options(options: Mapping[str, Any], settings: Settings | None) -> AppOptions:
    """Return Headway's options for those of the SDK for Streamable HTTP.

    Raises:
        TypeError: There is no such option.
    """
    chosen = settings or Settings()
    way: AppOptions = {}
    for name, value in options.items():
        if name == "streamable_http_path":
            way["path"] = value
        elif name in _NOT_NEEDED:
            if value:
                logger.warning("%s= is not needed here: %s", name, _NOT_NEEDED[name])
        elif name in _SETTINGS:
            chosen = replace(chosen, **_SETTINGS[name](value))
        else:
            known = ", ".join(sorted([*_SETTINGS, *_NOT_NEEDED, "streamable_http_path"]))
            raise TypeError(f"there is no option {name!r}; of the SDK's there are {known}")
    way["settings"] = chosen
    return way


def _security_settings(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return {
        "check_host": value.enable_dns_rebinding_protection,
        "allowed_hosts": tuple(value.allowed_hosts),
        "allowed_origins": tuple(value.allowed_origins),
    }


def _named_setting(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {} if value is None else {name: value}


def _ttl_setting(value: float | None) -> dict[str, Any]:
    return {"session_ttl": _YEAR if value is None else value}


def _retry_setting(value: float | None) -> dict[str, Any]:
    return {} if value is None else {"retry": value / 1000}


_SETTINGS: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
    "stateless_http": _named_setting("stateless"),
    "max_request_body_size": _named_setting("max_body"),
    "session_idle_timeout": _ttl_setting,
    "max_sessions": _named_setting("max_sessions"),
    "retry_interval": _retry_setting,
    "transport_security": _security_settings,
}
"""The setting for each option of the SDK."""


class _App(Protocol):
    def lifespan(self) -> AbstractAsyncContextManager[None]: ...

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class AppSessionManager:
    """The session manager for an app that mounts the server as the SDK documents it."""

    def __init__(self, app: _App) -> None:
        self._app = app

    def run(self) -> AbstractAsyncContextManager[None]:
        """Start and stop the server with the app that it is mounted in."""
        return self._app.lifespan()

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to the MCP endpoint."""
        await self._app.answer(scope, receive, send)


class ServesItself(MCPServer[Any]):
    """An `MCPServer` whose own ways in lead into Headway's engine."""

    _manager: AppSessionManager | None = None

    def run(
        self,
        transport: Literal["stdio", "http", "streamable-http", "sse"] = "stdio",
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        path: str = "/mcp",
        journal: str = "memory:",
        grace: float = 30.0,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        """Serve the server until its client leaves (stdio) or a signal ends it (HTTP).

        For the last line of a program; see `headway.run`. `options` are the SDK's for Streamable
        HTTP, such as `stateless_http` and `streamable_http_path`. `sse` is the transport of 2024,
        which the SDK serves: nothing can be resumed there.

        Raises:
            SetupError: The journal cannot be opened, or the port is in use.
            ValueError: There is no such transport.
            TypeError: There is no such option.
        """
        if transport == "sse":
            super().run("sse", host=host, port=port, **options)
            return
        way = read_options(options, settings)
        from headway import run

        way.setdefault("path", path)
        run(self, transport, host=host, port=port, journal=journal, grace=grace, **way)

    async def run_stdio_async(
        self, *, journal: str = "memory:", settings: Settings | None = None
    ) -> None:
        """Serve the server on stdin and stdout in the running loop, until its client leaves.

        Raises:
            SetupError: stdin or stdout is closed, or the journal cannot be opened.
        """
        from headway import run_stdio

        await run_stdio(self, journal=journal, settings=settings)

    async def run_streamable_http_async(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        journal: str = "memory:",
        grace: float = 30.0,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        """Serve the server over HTTP in the running loop, until a signal comes or it is cancelled.

        `options` are the SDK's.

        Raises:
            SetupError: The journal cannot be opened, or the port is in use.
            TypeError: There is no such option.
        """
        from headway import run_http

        way = read_options(options, settings)
        await run_http(self, host=host, port=port, journal=journal, grace=grace, **way)

    def streamable_http_app(
        self,
        *,
        host: str = "127.0.0.1",
        journal: str = "memory:",
        settings: Settings | None = None,
        **options: Any,
    ) -> Starlette:
        """Return the app that `headway.asgi` makes; `options` are the SDK's.

        Raises:
            SetupError: The journal's URL is malformed.
            TypeError: There is no such option.
        """
        from headway import asgi

        app = asgi(self, host=host, journal=journal, **read_options(options, settings))
        self._manager = AppSessionManager(app)
        return app

    @property
    def session_manager(self) -> Any:
        """The session manager of the app from `streamable_http_app`; its `run()` starts it.

        Raises:
            RuntimeError: It was not called yet.
        """
        if self._manager is None:
            raise RuntimeError("there is a session manager once streamable_http_app() was called")
        return self._manager

    def sse_app(self, **options: Any) -> Starlette:
        """Return the SDK's app for the HTTP+SSE transport of 2024; `options` are the SDK's.

        Its tools run in Headway's engine. The transport is the SDK's, and has no way to resume a
        stream.
        """
        logger.warning(
            "HTTP+SSE is served by the SDK: a cut stream is not resumed, no journal is kept and "
            "nothing is drained; streamable_http_app() is for all clients since 2025-03-26"
        )
        return super().sse_app(**options)
