"""A client that sends any bytes and waits for what must come of them.

Blocking sockets, with a limit to each wait: a server that hangs is a finding, not a fuzzer that
hangs.
"""

import json
import re
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
from tests.kit.waits import PATIENCE

OPEN_ENDED = ("subscriptions/listen", "tasks/result")
SLOW_TOOL = "ask"


_OFFER = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class Broken(AssertionError):
    """The server did what it never may."""


class Sent:
    """What an HTTP parser sees in the bytes that are sent, up to the end of the first request."""

    def __init__(self, data: bytes) -> None:
        self.method = ""
        self.path = ""
        self.body = b""
        self.is_complete = False
        self._parser: Any = httptools.HttpRequestParser(self)
        head, end, rest = data.partition(b"\r\n\r\n")
        with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            # The parser would leave the body out, which is there all the same.
            self._parser.feed_data(_OFFER.sub(b"\r\nX-Offer:", head) + end + rest)

    def on_url(self, url: bytes) -> None:
        if not self.is_complete:
            self.path += url.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self.is_complete:
            self.method = self._parser.get_method().decode()

    def on_body(self, body: bytes) -> None:
        if not self.is_complete:
            self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The JSON objects in the body."""
        return messages_in(self.body)

    @property
    def is_open_ended(self) -> bool:
        """Whether its answer may be a stream that nobody waits to the end of."""
        return self.method == "GET" or any(is_open_ended(message) for message in self.messages)


def messages_in(text: bytes) -> list[dict[str, Any]]:
    """The JSON objects in a message or a batch."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, dict)]


def is_open_ended(message: dict[str, Any]) -> bool:
    """Whether a request waits for news, or for somebody's answer."""
    params = message.get("params")
    tool = cast("dict[str, Any]", params).get("name") if isinstance(params, dict) else None
    return message.get("method") in OPEN_ENDED or tool == SLOW_TOOL


@dataclass
class Answer:
    """What came back. `status` 0: the connection was closed without an answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    is_whole: bool = False

    @property
    def kind(self) -> str:
        """Its media type."""
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def is_stream(self) -> bool:
        return self.kind == "text/event-stream"

    def outcome(self) -> Any:
        """The response to a good request, JSON or last of a stream."""
        body = self.body
        if self.is_stream:
            body = body.rstrip().rpartition(b"data: ")[2]
        return json.loads(body)


class _Reader:
    """Feeds an `Answer` from the pieces of a connection."""

    def __init__(self, *, has_body: bool) -> None:
        self.answer = Answer()
        self.in_body = False
        self._has_body = has_body
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        if not self.answer.is_whole:
            with suppress(httptools.HttpParserUpgrade):
                self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        if not self.answer.is_whole:
            self.answer = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.answer.is_whole:
            self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self.answer.is_whole:
            self.answer.status = self._parser.get_status_code()
            self.in_body = self.answer.status >= 200
            self.answer.is_whole = self.in_body and not self._has_body

    def on_body(self, body: bytes) -> None:
        if not self.answer.is_whole:
            self.answer.body += body

    def on_message_complete(self) -> None:
        if self.in_body:
            self.answer.is_whole = True


class Connection:
    """One TCP connection to the server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Reset, not closed in order: how clients vanish, and no port is left waiting.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def exchange(self, data: bytes, until: bytes = b"", *, whole: bool = False) -> Answer:
        """Send bytes and wait for what they must bring, `until` it has these, or for its end.

        That is an answer to its end where they are a whole request, the head and first bytes of a
        stream that waits for news, and the end of the connection where they are less.

        Raises:
            Broken: It does not come.
        """
        sent = Sent(data)
        reader = _Reader(has_body=sent.method != "HEAD")
        with suppress(ConnectionError):  # refused before all of it was read; the answer says why
            self._socket.sendall(data)
            if not sent.is_complete:
                self._socket.shutdown(socket.SHUT_WR)
        limit = time.monotonic() + PATIENCE
        is_open_ended = sent.is_open_ended and not whole
        while not _has_enough(reader.answer, until, is_open_ended=is_open_ended):
            piece = self._piece(limit, reader.answer)
            if not piece:
                if sent.is_complete and not reader.answer.is_whole:
                    raise Broken(f"no answer to a whole request, only {reader.answer}")
                break
            reader.feed(piece)
        return reader.answer

    def _piece(self, limit: float, answer: Answer) -> bytes:
        self._socket.settimeout(max(0.01, limit - time.monotonic()))
        try:
            return self._socket.recv(65536)
        except TimeoutError:
            raise Broken(f"no end of the answer within {PATIENCE:g} s, only {answer}") from None
        except ConnectionError:
            return b""


def _has_enough(answer: Answer, until: bytes, *, is_open_ended: bool) -> bool:
    if answer.is_whole:
        return True
    return is_open_ended and answer.is_stream and bool(answer.body) and until in answer.body
