"""Logging in at a server with OAuth: by the SDK's client, a browser, and a page here it returns to.

The browser comes back to a port of 127.0.0.1 (RFC 8252, 7.3) with a code. The provider of the SDK
does the rest: discovery, registration, PKCE, tokens and their renewal, more scopes when the server
asks for them.
"""

import asyncio
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from html import escape
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl

from headway.cli.client.http_client import BoundedTransport, route_to, shown_url
from headway.cli.client.stored_login import StoredLogin
from headway.cli.display.printable import one_line
from headway.cli.exit_codes import Refused, report_line

LOGIN_TIMEOUT: Final = 300.0
"""Seconds that a person gets to log in."""

CALLBACK: Final = "/callback"

_ANSWERED: Final = "You are logged in, and may close this window."


class BrowserLogin:
    """The login of this user at one server. A context manager: in it the browser can come back.

    Args:
        url: Of the MCP server.
        may_ask: Whether a browser may be opened. If not, a login that was kept is used and renewed.
    """

    def __init__(self, url: str, *, may_ask: bool) -> None:
        self._url = url
        self._may_ask = may_ask
        self._storage = StoredLogin(url)
        self._page: asyncio.Server | None = None
        self._returned: asyncio.Future[dict[str, str]] | None = None
        self._state: str | None = None
        """The text that the answer has to repeat: anybody on this machine can ask for the page."""
        self._provider: OAuthClientProvider | None = None
        self.on_wait: Callable[[float], None] = lambda _: None
        """Called with the seconds that a person gets."""

    @property
    def is_kept(self) -> bool:
        """Return whether somebody has logged in before."""
        return self._storage.has_tokens

    async def __aenter__(self) -> Self:
        uri = f"http://127.0.0.1:{await self._open_page()}{CALLBACK}"
        metadata = OAuthClientMetadata(
            client_name="headway",
            redirect_uris=[AnyUrl(uri)],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
        )
        provider = OAuthClientProvider(
            self._url,
            metadata,
            self._storage,
            redirect_handler=self._send_to_login,
            callback_handler=self._wait_for_return,
        )
        self._storage.context = provider.context
        self._provider = provider
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._page is not None:
            self._page.close()

    def over(self, inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """Return a transport that has requests authorized before `inner` sends them."""
        assert self._provider is not None
        return _LoginTransport(inner, self._provider, self._url)

    async def _open_page(self) -> int:
        """Listen for the browser, where a client was registered for at its port."""
        port = self._storage.redirect_port
        if not self._may_ask:
            return port
        with suppress(OSError):
            self._page = await asyncio.start_server(self._answer, "127.0.0.1", port)
        if self._page is None:  # somebody else has the port
            self._storage.forget_client()
            self._page = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return self._page.sockets[0].getsockname()[1]

    async def _send_to_login(self, address: str) -> None:
        shown = shown_url(self._url)
        if not self._may_ask:
            why = "is over, or not good for this"
            raise Refused(f"the login at {shown} {why}; log in again with --auth oauth")
        if urlsplit(address).scheme not in ("http", "https"):
            raise Refused(
                f"{shown} sends people to {one_line(address)} to log in, which is no page"
            )
        self._returned = asyncio.get_running_loop().create_future()
        self._state = parse_qs(urlsplit(address).query).get("state", [""])[0]
        self.on_wait(LOGIN_TIMEOUT)
        report_line(f"{shown} wants you to log in; a browser opens, or open: {one_line(address)}")
        await asyncio.to_thread(webbrowser.open, address)

    async def _wait_for_return(self) -> AuthorizationCodeResult:
        assert self._returned is not None
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                said = await self._returned
        except TimeoutError as error:
            raise Refused(f"nobody has logged in within {LOGIN_TIMEOUT:g} s") from error
        if "error" in said:
            reason = ": ".join(filter(None, (said["error"], said.get("error_description"))))
            raise Refused(f"the login was refused: {one_line(reason)}")
        return AuthorizationCodeResult(
            code=said.get("code", ""), state=said.get("state"), iss=said.get("iss")
        )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(LOGIN_TIMEOUT):
                method, target, _ = (await reader.readline()).decode("ascii").split(" ")
                while (await reader.readline()).strip():
                    pass
            said = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
            is_ours = method == "GET" and urlsplit(target).path == CALLBACK
            is_answer = is_ours and said.get("state") == self._state and self._state is not None
            writer.write(_page_of(said) if is_answer else _NOT_FOUND)
            await writer.drain()
            if is_answer and self._returned is not None and not self._returned.done():
                self._returned.set_result(said)
        writer.close()


class _LoginTransport(httpx2.AsyncBaseTransport):
    """Sends each request as the provider wants it, and the provider's own ones by their routes."""

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, provider: OAuthClientProvider, url: str
    ) -> None:
        self._inner = inner
        self._provider = provider
        self._url = httpx2.URL(url)
        self._others: dict[str, BoundedTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request with the user's token, after a login where one is wanted.

        Raises:
            Refused: The login does not succeed.
            httpx2.TransportError: There is no answer.
        """
        flow = self._provider.async_auth_flow(request)
        try:
            wanted = await anext(flow)
            while True:
                response = await self._send(wanted)
                response.request = wanted
                try:
                    wanted = await flow.asend(response)
                except StopAsyncIteration:
                    return response
                await response.aclose()
        except OAuthFlowError as error:
            text = f"cannot log in at {shown_url(str(self._url))}: {one_line(str(error))}"
            raise Refused(text) from error
        finally:
            await flow.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()
        for other in self._others.values():
            await other.aclose()

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        if request.url == self._url:
            return await self._inner.handle_async_request(request)
        host = f"{request.url.scheme}://{request.url.netloc.decode()}"
        if host not in self._others:
            self._others[host] = BoundedTransport(route_to(str(request.url)))
        return await self._others[host].handle_async_request(request)


def _page_of(said: dict[str, str]) -> bytes:
    text = f"Not logged in: {said['error']}" if "error" in said else _ANSWERED
    return _response("200 OK", f"<!doctype html><title>headway</title><p>{escape(text)}</p>\n")


def _response(status: str, text: str) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nContent-Security-Policy: default-src 'none'\r\n"
        "Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


_NOT_FOUND: Final = _response("404 Not Found", "<!doctype html><p>Nothing is here.</p>\n")
