"""The proxy of the test kit does to connections what it is told, and nothing else."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator

import pytest
from tests.chaos.scripted import (
    HEAD,
    Say,
    chunk,
    message,
    saying,
    ten,
    ten_and_silence,
    without_end,
)
from tests.kit.http import Answer, Connection, request_bytes
from tests.kit.waits import within

from headway.testing import Counts, Cut, Manner, Proxy
from headway.testing.http_responses import AnswerScanner

pytestmark = pytest.mark.anyio


_opened: list[Connection] = []


@pytest.fixture(autouse=True)
async def _no_connection_is_left() -> AsyncGenerator[None]:
    yield
    for connection in _opened:
        connection.cut()
    _opened.clear()


async def asked(proxy: Proxy, path: str = "/mcp") -> Connection:
    host, _, port = proxy.origin.removeprefix("http://").partition(":")
    connection = await Connection.open(host, int(port))
    _opened.append(connection)
    connection.write(request_bytes("GET", path, {"Host": "x"}))
    return connection


async def read_up(answer: Answer) -> tuple[list[str], str]:
    """The ids of the messages that came, and how it ended."""
    try:
        while await answer.frame() is not None:
            pass
    except ConnectionResetError:
        how = "reset"
    except (asyncio.IncompleteReadError, ValueError):
        how = "cut"
    else:
        how = "end"
    return [text for text in answer.ids if text != "0"], how


async def ids_and_end(proxy: Proxy, path: str = "/mcp") -> tuple[list[str], str]:
    return await read_up(await (await asked(proxy, path)).answer())


def up_to(last: int) -> list[str]:
    return [str(number) for number in range(1, last + 1)]


async def test_the_proxy_passes_everything_on_and_counts() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        assert proxy.url == f"{proxy.origin}/mcp"
        assert await ids_and_end(proxy) == (up_to(10), "end")
        seen = Counts(connections=1, answers=1, messages=10, asked=len(proxy.asked))
        seen.told = len(proxy.told)
        assert proxy.counts == seen


async def test_one_connection_carries_one_request_after_another() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        connection = await asked(proxy)
        assert await read_up(await connection.answer()) == (up_to(10), "end")
        connection.write(request_bytes("GET", "/mcp", {"Host": "x"}))
        assert await read_up(await connection.answer()) == (up_to(10), "end")
        assert (proxy.counts.connections, proxy.counts.answers) == (1, 2)


@pytest.mark.parametrize("pieces", ["whole", "bytes", "random"])
async def test_messages_are_counted_however_they_are_cut_into_pieces(pieces: str) -> None:
    raw = HEAD + chunk(b": ping\n\n" + message(1) + message(2)[:9]) + chunk(message(2)[9:])
    raw += chunk(b"data:\n\n") + chunk(b"data: 3\r\n\r\n") + b"0\r\n\r\n"
    raw += b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\ndata: 1\n"
    raw += b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    inner = sorted(random.sample(range(1, len(raw)), 20)) if pieces == "random" else []
    cuts = [0, *(range(1, len(raw)) if pieces == "bytes" else inner), len(raw)]
    scanner, found = AnswerScanner(), list[tuple[str, int]]()
    for start, end in itertools.pairwise(cuts):
        found += [(mark.kind, start + mark.at) for mark in scanner.feed(raw[start:end])]
    kinds = [kind for kind, _ in found]
    assert kinds == ["head", *["message"] * 3, "end", "head", "end", "head", "end"]
    ends = [at for kind, at in found if kind == "message"]
    assert raw[: ends[0]].endswith(message(1))
    assert raw[: ends[1]].endswith(message(2)[9:] + b"\r\n")


async def test_bytes_that_are_no_http_pass_uncounted() -> None:
    for raw in (b"\x16\x03\x01" * 100_000, HEAD + b"no size\r\nat all"):
        scanner = AnswerScanner()
        assert [mark.kind for mark in scanner.feed(raw)] in ([], ["head"])


async def test_the_proxy_cuts_after_a_message() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        proxy.plan(Cut(messages=4))
        assert await ids_and_end(proxy) == (up_to(4), "cut")
        assert await ids_and_end(proxy) == (up_to(10), "end")
        assert proxy.counts.cuts == 1


async def test_the_proxy_cuts_at_a_byte_inside_of_a_message() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        proxy.plan(Cut(text=b"id: 7\n", plus=3))
        connection = await asked(proxy)
        seen = await within(connection.reader.read(-1))
        assert seen.endswith(b"id: 7\neve")


async def test_the_proxy_cuts_before_the_first_byte() -> None:
    async with saying(ten) as (server, url), Proxy(url) as proxy:
        proxy.plan(Cut())
        assert await within((await asked(proxy)).reader.read(-1)) == b""
        assert len(server.requests) == 1


async def test_cuts_come_one_after_the_other_and_only_where_they_are_meant() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        proxy.plan(Cut(messages=2, request=b"/meant"), Cut(messages=3))
        assert await ids_and_end(proxy, "/other") == (up_to(10), "end")
        assert await ids_and_end(proxy, "/meant") == (up_to(2), "cut")
        assert await ids_and_end(proxy, "/other") == (up_to(3), "cut")


async def test_the_proxy_cuts_some_time_after_a_message() -> None:
    async with saying(ten_and_silence) as (_, url), Proxy(url) as proxy:
        proxy.plan(Cut(messages=2, seconds=0.01))
        assert await ids_and_end(proxy) == (up_to(10), "cut")


async def test_a_reset_is_a_reset_on_both_sides() -> None:
    async with saying(ten_and_silence) as (server, url), Proxy(url) as proxy:
        connection = await asked(proxy)
        answer = await connection.answer()
        while answer.ids != up_to(10):
            await answer.frame()
        assert proxy.cut("reset") == 1
        with pytest.raises(ConnectionResetError):
            await answer.frame()
        await within(server.news.wait())
        assert server.ends == ["reset"]


async def test_a_cut_of_the_clients_side_is_not_seen_by_the_server() -> None:
    async with saying(ten_and_silence) as (server, url):
        async with Proxy(url) as proxy:
            proxy.plan(Cut(messages=10, side="client"))
            assert await ids_and_end(proxy) == (up_to(10), "cut")
            assert server.ends == []
        await within(server.news.wait())


async def test_only_the_server_notices_and_the_client_is_told_later() -> None:
    async with saying(ten_and_silence) as (server, url), Proxy(url) as proxy:
        answer = await (await asked(proxy)).answer()
        await answer.frame()
        proxy.connections[0].cut("reset", side="server", notice=0.05)
        await within(server.news.wait())
        assert server.ends == ["reset"]
        assert (await read_up(answer))[1] == "reset"


async def test_a_half_closed_connection_goes_on_in_the_other_direction() -> None:
    async with saying(ten_and_silence) as (server, url), Proxy(url) as proxy:
        proxy.plan(Cut(messages=3, how="half", side="server"))
        answer = await (await asked(proxy)).answer()
        while answer.ids != up_to(10):
            await answer.frame()
        await within(server.news.wait())
        assert server.ends == ["end"]


async def test_while_it_is_down_and_without_a_server_clients_are_refused() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        proxy.down = True
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await (await asked(proxy)).answer()
        proxy.down = False
        assert await ids_and_end(proxy) == (up_to(10), "end")
        proxy.target = "127.0.0.1:1"
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await (await asked(proxy)).answer()
        assert (proxy.counts.refused, proxy.counts.connections) == (2, 1)


async def test_a_client_that_reconnects_may_be_sent_to_another_server() -> None:
    async with saying(ten) as (one, url), saying(ten) as (two, other), Proxy(url) as proxy:
        proxy.plan(Cut(messages=4))
        await ids_and_end(proxy)
        proxy.target = other
        await ids_and_end(proxy)
        assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_the_proxy_buffers_an_answer_until_it_has_enough_or_all() -> None:
    go = asyncio.Event()

    async def paused(say: Say) -> None:
        await say(HEAD + chunk(message(1)))
        await go.wait()
        await say(chunk(message(2)) + b"0\r\n\r\n")

    async with saying(paused) as (_, url), Proxy(url, manner=Manner(hold=10_000)) as proxy:
        connection = await asked(proxy)
        await within(proxy.until(lambda: b"id: 1" in proxy.told))
        first = asyncio.ensure_future(connection.reader.read(1))
        done, _ = await asyncio.wait([first], timeout=0.05)
        assert not done
        go.set()
        assert await within(first) == b"H"
        rest = await within(connection.reader.readuntil(b"0\r\n\r\n"))
        assert rest.count(b"id: ") == 2


async def test_a_slow_proxy_slows_the_server_down() -> None:
    slowly = Manner(piece=1, pause=0.001)
    async with saying(without_end) as (_, url), Proxy(url, manner=slowly) as proxy:
        connection = await asked(proxy)
        assert await within(connection.reader.readexactly(20)) == HEAD[:20]
        assert proxy.counts.told <= 4 * 65536


async def test_the_proxy_closes_a_silent_answer() -> None:
    async with (
        saying(ten_and_silence) as (_, url),
        Proxy(url, manner=Manner(idle=0.05, delay=0.001)) as proxy,
    ):
        assert await ids_and_end(proxy) == (up_to(10), "cut")
        assert (proxy.counts.idle, proxy.counts.cuts) == (1, 1)


async def test_nothing_is_left_when_the_proxy_ends() -> None:
    before = asyncio.all_tasks()
    async with saying(ten_and_silence) as (server, url):
        async with Proxy(url) as proxy:
            for side in ("both", "client", "server"):
                connection = await asked(proxy)
                await (await connection.answer()).frame()
                proxy.connections[-1].cut("reset", side=side)
            answer = await (await asked(proxy)).answer()
            await answer.frame()
        assert proxy.connections == []
        assert (await read_up(answer))[1] in ("cut", "reset")
        while len(server.ends) < 4:
            server.news.clear()
            await within(server.news.wait())
    assert asyncio.all_tasks() - before == set()


async def test_requests_are_remembered_with_their_headers() -> None:
    async with saying(ten) as (_, url), Proxy(url) as proxy:
        connection = await asked(proxy)
        connection.write(request_bytes("GET", "/mcp", {"Host": "x", "Last-Event-ID": "a.1"}))
        await within(proxy.until(lambda: proxy.values_of("last-event-id")))
        assert proxy.values_of("Last-Event-ID") == ["a.1"]
