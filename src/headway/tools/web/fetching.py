"""One HTTP request to an allowed host, and an answer of bounded size."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import httpx2

from headway.tools.roots import printable_name
from headway.tools.timing import Clock, within
from headway.tools.web.hosts import CheckedTransport, Forbidden, Hosts, Resolver, resolve

REDIRECTS = 5

AGENT = "headway-tools"

_REDIRECTING = {301, 302, 303, 307, 308}

_HARMLESS = {"accept", "content-type", "user-agent"}
"""Headers that another origin may see after a redirect: no key is in them."""


class FetchFailed(Exception):
    """There is no answer; the text says why, `transient` whether it may come another time."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Ask:
    """A request; `headers` are the caller's, those of its host are added when it is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content: bytes = b""


class Answer(NamedTuple):
    """The answer to a request, whatever its status."""

    status: int
    headers: httpx2.Headers
    body: bytes


class Fetcher:
    """Asks hosts that are allowed; used in an `async with` block.

    `largest` is the size of an answer in bytes, `seconds` the time for one, redirects included.
    """

    def __init__(
        self,
        hosts: Hosts,
        clock: Clock,
        *,
        largest: int,
        seconds: float,
        resolver: Resolver | None = None,
    ) -> None:
        self._hosts = hosts
        self._clock = clock
        self._largest = largest
        self._seconds = seconds
        self._transport = CheckedTransport(hosts, resolver or resolve)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.aclose()

    async def fetch(self, ask: Ask) -> Answer:
        """Return the answer, after up to five redirects.

        Raises:
            FetchFailed: There is none, or it is too large.
        """
        try:
            async with within(self._clock, self._seconds):
                return await self._follow_redirects(self._make_request(ask))
        except TimeoutError as error:
            raise FetchFailed(f"no answer within {self._seconds:g} s", transient=True) from error
        except Forbidden as error:
            raise FetchFailed(str(error)) from error
        except httpx2.InvalidURL as error:
            raise FetchFailed(f"it is no URL ({error})") from error
        except (httpx2.LocalProtocolError, UnicodeError) as error:
            raise FetchFailed(f"it cannot be sent ({error})") from error
        except httpx2.ProxyError as error:
            reason = printable_name(str(error))[:200]
            again = not reason.startswith("4")  # its status, where it has answered
            raise FetchFailed(f"the proxy: {reason}", transient=again) from error
        except httpx2.TransportError as error:
            reason = printable_name(str(error))[:200] or type(error).__name__
            raise FetchFailed(f"the connection failed: {reason}", transient=True) from error

    def _make_request(self, ask: Ask) -> httpx2.Request:
        url = httpx2.URL(ask.url)
        host = self._hosts.allow(url)
        headers = httpx2.Headers({"User-Agent": AGENT, "Accept": "*/*"})
        headers.update(ask.headers)
        headers.update(host.headers)
        # What is unpacked has no size that a header tells.
        headers["Accept-Encoding"] = "identity"
        return httpx2.Request(ask.method, url, headers=headers, content=ask.content or None)

    async def _follow_redirects(self, request: httpx2.Request) -> Answer:
        for _ in range(REDIRECTS + 1):
            response = await self._transport.handle_async_request(request)
            try:
                target = response.headers.get("location")
                if response.status_code not in _REDIRECTING or target is None:
                    return await self._read_answer(request, response)
            finally:
                await response.aclose()
            request = self._redirect_request(request, response.status_code, target)
        raise FetchFailed(f"it redirects more than {REDIRECTS} times")

    def _redirect_request(
        self, request: httpx2.Request, status: int, target: str
    ) -> httpx2.Request:
        url = request.url.join(target)
        host = self._hosts.allow(url)
        headers = request.headers.copy()
        if url.origin != request.url.origin:
            headers = httpx2.Headers(
                [(name, value) for name, value in headers.items() if name in _HARMLESS]
            )
            headers.update(host.headers)
            headers["Accept-Encoding"] = "identity"
        headers["Host"] = url.netloc.decode("ascii")
        method, stream = request.method, request.stream
        if status == 303 or (status in (301, 302) and method == "POST"):
            if method != "HEAD":
                method = "GET"
            for name in ("content-type", "content-length", "transfer-encoding"):
                headers.pop(name, None)
            return httpx2.Request(method, url, headers=headers)
        return httpx2.Request(method, url, headers=headers, stream=stream)

    async def _read_answer(self, request: httpx2.Request, response: httpx2.Response) -> Answer:
        if request.method == "HEAD":
            return Answer(response.status_code, response.headers, b"")
        packed = response.headers.get("content-encoding", "identity")
        if packed.lower() != "identity":
            raise FetchFailed(f"the answer is packed ({packed[:20]!r}), which was not asked for")
        size = response.headers.get("content-length", "")
        body = bytearray()
        if not (size.isascii() and size.isdigit() and int(size[:19]) > self._largest):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._largest:
                    break
            else:
                shown = self._hosts.secrets.mask_bytes(bytes(body))
                return Answer(response.status_code, response.headers, shown)
        raise FetchFailed(f"the answer is larger than {self._largest:,} bytes")
