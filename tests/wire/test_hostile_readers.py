"""Clients that hold what they are given and give nothing back: their cost is bounded, and theirs.

Those who read slowly or not at all, who come back again and again, and who never finish asking.
Each meets a server process of its own, and another client's calls have to succeed meanwhile;
nothing here depends on how fast they do.
"""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from tests.fuzz.catalogue import ACCEPT, Request, envelope
from tests.fuzz.mutate import on_the_wire
from tests.fuzz.servers import HttpServer
from tests.fuzz.target import Figures
from tests.kit.peers import MODERN, each_era
from tests.kit.waits import PATIENCE

from headway.transport.open_responses import MOST_READERS

MIB = 2**20

MANY = max(50, min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200))
"""Connections that one client may hold: a thousand, where the system lets it."""


class Hostile:
    """A client without manners. Everything it opens stays open until it leaves."""

    def __init__(self, server: HttpServer, stack: ExitStack) -> None:
        self.server = server
        self.session = server.world["session-2025-11-25"]
        self._stack = stack
        self.sockets: list[socket.socket] = []

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        opened = self._stack.enter_context(socket.socket())
        if receive_buffer is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.settimeout(PATIENCE)
        opened.connect(("127.0.0.1", self.server.port))
        self.sockets.append(opened)
        return opened

    def leave(self) -> None:
        for opened in self.sockets:
            opened.close()

    def call(self, era: str, tool: str, arguments: dict[str, Any], id: int) -> bytes:
        meta = {"progressToken": id}
        params: dict[str, Any] = {"name": tool, "arguments": arguments, "_meta": meta}
        headers = self._headers(MODERN if era == "2026" else "2025-11-25")
        if era == "2026":
            params = envelope(params)
            headers += [("Mcp-Method", "tools/call"), ("Mcp-Name", tool)]
        body = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
        return on_the_wire(Request("POST", headers, body))

    def get(self, last: str | None = None) -> bytes:
        headers = self._headers("2025-11-25")
        return on_the_wire(Request("GET", headers + ([("Last-Event-ID", last)] if last else [])))

    def _headers(self, version: str) -> list[tuple[str, str]]:
        headers = [
            ("Host", f"127.0.0.1:{self.server.port}"),
            ("Accept", ACCEPT),
            ("Content-Type", "application/json"),
            ("MCP-Protocol-Version", version),
        ]
        return headers if version == MODERN else [*headers, ("Mcp-Session-Id", self.session)]


@contextmanager
def hostile(*settings: str) -> Iterator[Hostile]:
    with HttpServer(*settings, asks=False) as server, ExitStack() as stack:
        yield Hostile(server, stack)


def read_until(opened: socket.socket, text: bytes) -> bytes:
    """What comes, up to and with `text`."""
    said = b""
    while text not in said:
        piece = opened.recv(65536)
        assert piece, said
        said += piece
    return said


def is_closed(opened: socket.socket) -> bool:
    """Whether the server ends the connection; what it says before is passed over."""
    with suppress(ConnectionError):
        while opened.recv(65536):
            pass
    return True


def settled(server: HttpServer, before: Figures) -> Figures:
    """What is left when all hostile clients are gone."""
    return server.settle(lambda now: now.runs == 0 and now.fds <= before.fds)


# Readers

READERS = 8
TIMES, SIZE = 15_000, 2000
SAID = READERS * TIMES * SIZE
KEPT = READERS * 16 * MIB
"""Of each stream the journal keeps 8 MiB; the rest is room for what holds it."""

ROUNDS = 50


@each_era
@pytest.mark.parametrize("pace", [0, 1], ids=["never", "a byte at a time"])
def test_readers_that_hardly_read_cost_a_bounded_amount(era: str, pace: int) -> None:
    with hostile() as client:
        server = client.server
        before = server.figures()
        readers = [client.connect(receive_buffer=4096) for _ in range(READERS)]
        for number, reader in enumerate(readers):
            reader.sendall(client.call(era, "shout", {"times": TIMES, "size": SIZE}, number))
        now, most = server.figures(), 0
        for _ in range(ROUNDS):
            server.check()
            for reader in readers if pace else ():
                assert len(reader.recv(1)) == 1
            now = server.figures()
            most = max(most, now.rss - before.rss)
        now = server.settle(lambda now: not now.runs)
        assert not now.runs, "a tool waits for its reader"
        assert 0 < most < KEPT < SAID, f"{most / MIB:.0f} MiB"
        client.leave()
        assert settled(server, before).fds <= before.fds


def test_a_get_stream_that_is_not_read_costs_nothing_to_others() -> None:
    with hostile() as client:
        reader = client.connect(receive_buffer=4096)
        reader.sendall(client.get())
        read_until(reader, b"\n\n")
        for _ in range(200):
            client.server.check()
        assert client.server.figures().answers == 1


# Those who come back


def test_a_storm_of_reconnects_leaves_one_reader() -> None:
    with hostile() as client:
        server = client.server
        before = server.figures()
        first = client.connect()
        first.sendall(client.call("2025", "hold", {}, 1))
        said = read_until(first, b"holding")
        last = said.rpartition(b"id: ")[2].partition(b"\n")[0]
        for number in range(MANY // 2):
            again = client.connect()
            again.sendall(client.get(last.decode()))
            if number % 3:  # others do not even wait for the first byte
                read_until(again, b"HTTP/1.1 200")
            if number % 10 == 0:
                server.check()
        now = server.settle(lambda now: now.answers <= before.answers + 1)
        assert now.answers <= before.answers + 1
        assert now.runs == 1
        client.leave()
        now = server.settle(lambda now: now.fds <= before.fds)
        assert now.fds <= before.fds


def test_one_get_stream_after_the_other_is_a_few_streams() -> None:
    with hostile() as client:
        server = client.server
        before = server.figures()
        for _ in range(300):
            stream = client.connect()
            stream.sendall(client.get())
            read_until(stream, b"\n\n")
            server.check()
        now = server.settle(lambda now: now.answers <= MOST_READERS)
        assert now.answers <= MOST_READERS
        assert now.tasks <= before.tasks + 5 * MOST_READERS
        assert now.rss - before.rss < 32 * MIB


# Those who never finish asking


@pytest.mark.parametrize("sent", ["nothing", "half a head", "half a body"])
def test_a_thousand_half_open_connections_are_closed_and_nobody_waits(sent: str) -> None:
    with hostile("head_timeout=1", "body_timeout=1") as client:
        server = client.server
        before = server.figures()
        whole = client.call("2026", "add", {"a": 1, "b": 2}, 1)
        cut = {"nothing": 0, "half a head": 40, "half a body": len(whole) - 20}[sent]
        for number in range(MANY):
            client.connect().sendall(whole[:cut])
            if number % 20 == 0:
                server.check()
        assert all(is_closed(opened) for opened in client.sockets)
        server.check()
        now = settled(server, before)
        assert now.fds <= before.fds
        assert now.tasks <= before.tasks
        assert now.rss - before.rss < 64 * MIB


def test_a_head_that_comes_byte_by_byte_is_not_waited_for() -> None:
    with hostile("head_timeout=1") as client:
        slow = client.connect()
        slow.settimeout(0.02)
        limit = time.monotonic() + PATIENCE
        said = b""
        for byte in client.get() + b"X-More: " + b"x" * 100_000:
            assert time.monotonic() < limit, "it is still read"
            try:
                slow.send(bytes([byte]))
                said = slow.recv(1000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if said:
                break
            client.server.check()
        assert not said or said.startswith(b"HTTP/1.1 408")


def test_more_connections_than_may_be_are_turned_away_and_the_others_served() -> None:
    with hostile("max_connections=60", "head_timeout=60") as client:
        server = client.server
        for _ in range(50):
            client.connect().sendall(b"POST /mcp HTTP/1.1\r\n")
        turned_away = [client.connect() for _ in range(50)]
        for opened in turned_away[10:]:
            answer = read_until(opened, b"try again later")
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 5" in answer
        for _ in range(20):
            server.check()
        client.leave()
        assert server.settle(lambda now: now.fds < 40).fds < 40
