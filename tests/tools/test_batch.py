"""`process_batch`: one request for each item, tried again where that helps, told as it comes."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from headway import Headway
from headway.protocol.header_lines import retry_after
from headway.testing import Outcome, run_tool
from headway.tools.batch import BatchLimits, BatchTool
from headway.tools.timing import SystemClock
from headway.tools.web.hosts import Host, Hosts, is_public

pytestmark = pytest.mark.anyio


class Quick(SystemClock):
    """Waits are noted and over at once."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    async def sleep(self, delay: float) -> None:
        if delay > 25:  # the limit of an attempt, which nothing here reaches
            await asyncio.Event().wait()
        self.slept.append(delay)
        self.ahead += delay
        await asyncio.sleep(0)


Answer = Callable[[str, str, bytes, int], tuple[int, dict[str, str], bytes]]
"""Method, path, body and how often the path was asked, to status, headers and body."""


class Web:
    """A small HTTP server in this loop that notes what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []
        self.heads: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")[:-2]
                method, path, _ = first.split(" ")
                headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                self.asked.append((method, path))
                self.heads.append(headers)
                self.bodies.append(body)
                self.counts[path] += 1
                await asyncio.sleep(0.005)
                status, more, content = self.answer(method, path, body, self.counts[path])
                self.at_once -= 1
                sent = {"Content-Length": str(len(content)), **more}
                text = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{text}\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def web(answer: Answer) -> AsyncGenerator[Web]:
    site = Web(answer)
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()


def fine(method: str, path: str, body: bytes, count: int) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"path": path}).encode()


async def local(name: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def batch(
    site: Web | None,
    items: list[Any],
    request: dict[str, Any],
    *,
    host: Host | None = None,
    limits: BatchLimits | None = None,
    clock: Quick | None = None,
    **arguments: Any,
) -> Outcome:
    port = site.port if site else 1
    hosts = Hosts({"api.test": host or Host(ports=(port,), private=True, rate=10_000)})
    tool = BatchTool(hosts, limits=limits, clock=clock or Quick(), resolver=local)
    mcp = Headway("s")
    mcp.add_tool(tool.process_batch)
    request = {**request, "url": request["url"].replace("PORT", str(port))}
    return await run_tool(mcp, "process_batch", {"items": items, "request": request, **arguments})


async def test_each_item_is_a_request_and_a_part() -> None:
    async with web(fine) as site:
        request = {"url": "http://api.test:PORT/users/{item.id}?q={item.name}"}
        items = [{"id": 1, "name": "a b"}, {"id": "x/y", "name": "ü&"}]
        outcome = await batch(site, items, request)
    assert sorted(path for _, path in site.asked) == [
        "/users/1?q=a%20b", "/users/x%2Fy?q=%C3%BC%26",
    ]  # fmt: skip
    assert site.heads[0]["host"] == f"api.test:{site.port}"
    assert outcome.result == {"items": 2, "ok": 2, "failed": 0, "attempts": 2, "failures": []}
    first = min(outcome.parts, key=lambda p: p["index"])
    assert (first["item"], first["status"], first["http_status"]) == (items[0], "ok", 200)
    assert first["body"] == {"path": "/users/1?q=a%20b"}
    assert outcome.progress[-1] == (2, 2, "2 ok, 0 failed")


async def test_bodies_keep_their_types() -> None:
    async with web(fine) as site:
        body = {"all": "{item}", "n": "{item.n}", "text": "no {item.n}", "list": ["{item.n}", 7]}
        request = {"url": "http://api.test:PORT/", "method": "PUT", "body": body}
        await batch(site, [{"n": 3}], request)
    assert json.loads(site.bodies[0]) == {
        "all": {"n": 3}, "n": 3, "text": "no 3", "list": [3, 7],
    }  # fmt: skip
    assert site.heads[0]["content-type"] == "application/json"


async def test_only_so_many_at_once() -> None:
    async with web(fine) as site:
        request = {"url": "http://api.test:PORT/{item}"}
        await batch(site, list(range(20)), request, concurrency=3)
    assert 1 < site.most_at_once <= 3


async def test_a_temporary_failure_is_tried_again_with_growing_delays() -> None:
    async with web(lambda _m, _p, _b, count: (503 if count < 4 else 200, {}, b"")) as site:
        clock = Quick()
        outcome = await batch(site, [1], {"url": "http://api.test:PORT/{item}"}, clock=clock)
    assert outcome.parts[0]["attempts"] == 4
    assert outcome.result["ok"] == 1
    waits = [wait for wait in clock.slept if wait > 0.1]
    assert len(waits) >= 3
    assert waits[0] <= 0.5


async def test_after_the_last_attempt_an_item_has_failed() -> None:
    async with web(lambda *_: (502, {}, b"bad gateway")) as site:
        outcome = await batch(site, [1, 2], {"url": "http://api.test:PORT/{item}"})
    assert outcome.result["failed"] == 2
    assert outcome.result["attempts"] == 8
    assert outcome.result["failures"][0] == {"index": 0, "reason": "status 502"}
    assert outcome.parts[0]["body"] == "bad gateway"


async def test_a_server_says_when_to_come_back() -> None:
    def answer(method: str, path: str, body: bytes, count: int) -> Any:
        return (429, {"Retry-After": "7"}, b"") if count == 1 else (200, {}, b"")

    async with web(answer) as site:
        clock = Quick()
        request = {"url": "http://api.test:PORT/{item}", "method": "POST"}
        outcome = await batch(site, [1], request, clock=clock)
    assert outcome.result["ok"] == 1
    assert 7 in clock.slept


async def test_an_item_fails_when_its_server_asks_for_too_long_a_wait() -> None:
    async with web(lambda *_: (429, {"Retry-After": "86400"}, b"")) as site:
        outcome = await batch(site, [1], {"url": "http://api.test:PORT/{item}"})
    assert "too long" in outcome.result["failures"][0]["reason"]
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("extra", "host", "attempts"),
    [({}, {}, 1), ({"idempotent": True}, {}, 4), ({}, {"retry_unsafe": True}, 4)],
)
async def test_a_post_is_repeated_only_where_that_is_said_to_be_harmless(
    extra: dict[str, Any], host: dict[str, Any], attempts: int
) -> None:
    async with web(lambda *_: (503, {}, b"")) as site:
        request = {"url": "http://api.test:PORT/{item}", "method": "POST", "body": 1, **extra}
        allowed = Host(ports=(site.port,), private=True, rate=10_000, **host)
        await batch(site, [1], request, host=allowed)
    assert len(site.asked) == attempts
    keys = {head.get("idempotency-key") for head in site.heads}
    assert len(keys) == 1
    assert (None in keys) == ("idempotent" not in extra)


async def test_a_host_is_asked_at_its_rate() -> None:
    async with web(fine) as site:
        clock = Quick()
        allowed = Host(ports=(site.port,), private=True, rate=2)
        request = {"url": "http://api.test:PORT/{item}"}
        await batch(site, list(range(5)), request, host=allowed, clock=clock)
    assert clock.ahead >= 1.9


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("nonsense", "it makes no URL"),
        ("", "it makes no URL"),
        (7, "it makes no URL"),
        (None, "it makes no URL"),
        ({"a": 1}, "it makes no URL"),
        ("http://", "http or https URL"),
        ("ftp://api.test/x", "http or https"),
        ("http://evil.test/", "is not allowed"),
        ("http://api.test:22/", "port 22"),
        ("http://user:secret@api.test:PORT/", "user name or password"),
        ("http://127.0.0.1:PORT/", "is not allowed"),
        ("http://[::1]:PORT/", "is not allowed"),
        ("http://api.test.:PORT@evil.test/", "user name or password"),
    ],
)
async def test_an_item_that_is_no_allowed_url_fails_alone(item: Any, reason: str) -> None:
    async with web(fine) as site:
        if isinstance(item, str):
            item = item.replace("PORT", str(site.port))
        good = f"http://api.test:{site.port}/ok"
        outcome = await batch(site, [item, good], {"url": "{item}"})
    assert (outcome.result["ok"], outcome.result["failed"]) == (1, 1), outcome.parts
    assert reason in outcome.result["failures"][0]["reason"]
    assert site.asked == [("GET", "/ok")]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"])
async def test_a_name_at_a_private_address_is_refused_after_it_was_resolved(address: str) -> None:
    async def resolver(name: str, port: int) -> Sequence[str]:
        return ["93.184.216.34", address]

    tool = BatchTool(Hosts({"api.test": Host()}), clock=Quick(), resolver=resolver)
    mcp = Headway("s")
    mcp.add_tool(tool.process_batch)
    request = {"url": "http://api.test/{item}"}
    outcome = await run_tool(mcp, "process_batch", {"items": [1], "request": request})
    assert "private address" in outcome.result["failures"][0]["reason"]


async def test_a_redirect_leads_to_allowed_hosts_only() -> None:
    def answer(method: str, path: str, body: bytes, count: int) -> Any:
        if path == "/in":
            return 302, {"Location": "/ok"}, b""
        if path == "/out":
            return 302, {"Location": "http://evil.test/"}, b""
        return 200, {}, b"there"

    async with web(answer) as site:
        outcome = await batch(site, ["in", "out"], {"url": "http://api.test:PORT/{item}"})
    assert (outcome.result["ok"], outcome.result["failed"]) == (1, 1)
    assert "evil.test" in outcome.result["failures"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"items": []}, "at least 1"),
        ({"items": list(range(30))}, "more than one call takes"),
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"concurrency": 99}, "less than or equal to 32"),
        ({"request": {"url": "http://evil.test/{item}"}}, "'evil.test' is not allowed"),
        ({"request": {"url": "{item}", "method": "TRACE"}}, "GET"),
        ({"request": {"url": "{item}", "headers": {"Host": "x"}}}, "not the caller's to set"),
        ({"request": {"url": "{item}", "colour": "red"}}, "colour"),
        ({"request": {}}, "url"),
    ],
)
async def test_bad_arguments_get_a_sentence(arguments: dict[str, Any], complaint: str) -> None:
    tool = BatchTool(Hosts({"api.test": Host()}), limits=BatchLimits(items=20), clock=Quick())
    mcp = Headway("s")
    mcp.add_tool(tool.process_batch)
    full = {"items": [1], "request": {"url": "http://api.test/{item}"}, **arguments}
    outcome = await run_tool(mcp, "process_batch", full, raise_on_error=False)
    assert outcome.is_error
    assert complaint in (outcome.error or "")


async def test_headers_hold_no_lines() -> None:
    request = {"url": "http://api.test:PORT/", "headers": {"X-Name": "{item}"}}
    outcome = await batch(None, ["a\r\nEvil: 1", "ü"], request)
    assert outcome.result["failed"] == 2


async def test_a_large_answer_fails_its_item() -> None:
    async with web(lambda *_: (200, {}, b"x" * 5000)) as site:
        limits = BatchLimits(answer_bytes=1000)
        outcome = await batch(site, [1], {"url": "http://api.test:PORT/{item}"}, limits=limits)
    assert "larger than 1,000 bytes" in outcome.result["failures"][0]["reason"]


async def test_keys_of_a_host_are_sent_to_it_and_to_nobody_else() -> None:
    def answer(method: str, path: str, body: bytes, count: int) -> Any:
        other = path.removeprefix("/to/")
        return (
            (302, {"Location": f"http://other.test:{other}/"}, b"")
            if other != path
            else (200, {}, b"")
        )

    async with web(answer) as first, web(fine) as second:
        hosts = Hosts({
            "api.test": Host((first.port,), private=True, headers={"Authorization": "key"}),
            "other.test": Host((second.port,), private=True),
        })  # fmt: skip
        tool = BatchTool(hosts, clock=Quick(), resolver=local)
        mcp = Headway("s")
        mcp.add_tool(tool.process_batch)
        request = {"url": f"http://api.test:{first.port}/to/{{item}}", "headers": {"X-Own": "1"}}
        outcome = await run_tool(mcp, "process_batch", {"items": [second.port], "request": request})
    assert outcome.result["ok"] == 1, outcome.parts
    assert first.heads[0]["authorization"] == "key"
    assert not {"authorization", "x-own"} & set(second.heads[0])


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
    cases: dict[str, float | None] = {
        "5": 5, "0": 0, "": None, "soon": None, "-3": None,
        "Mon, 23 Nov 99999999999999999999 12:00:00 GMT": None,
        "Mon, 23 Nov 2026 12:00:30 GMT": 30, "Mon, 23 Nov 2026 11:00:00 GMT": 0,
    }  # fmt: skip
    for text, seconds in cases.items():
        assert retry_after(httpx2.Headers({"Retry-After": text}), now) == seconds, text


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False), ("0.0.0.0", False), ("100.64.0.1", False), ("224.0.0.1", False),
        ("::", False), ("fe80::1", False), ("192.168.1.1", False),
    ],
)  # fmt: skip
def test_public_addresses_are_told_from_private_ones(address: str, public: bool) -> None:
    assert is_public(address) is public
