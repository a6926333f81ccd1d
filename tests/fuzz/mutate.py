"""What is done to a valid request: small wrongs, at every level from JSON down to bytes."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.catalogue import (
    OFFERS,
    TRAILERS,
    Request,
    World,
    any_message,
    any_request,
    stuffing,
)
from tests.fuzz.jsontext import Pairs, Raw, pairs_of, write

TEXTS = [
    "", " ", "\0", "x" * 600, "y" * 70_000, "\u2028\u2029\u0085", "caf\u00e9", "\U0001f600",
    "\r\nX-Injected: 1", "../../etc/passwd", "%00", "{}", "null", "-1", "0", "1e999", "NaN",
    "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28", "DRAFT-2026-v1",
    "=?base64?w6k=?=", "=?base64?%%%?=", "initialize", "tools/call", "subscriptions/listen",
    "headway://runs/", "headway://runs/x/y", "file:///etc/passwd", "'; DROP TABLE runs; --",
    "get.x.1", "a.b.c", "W10.W10.1", "get..", "run.WzEsMV0.99999999999999999", "\ufeff",
]  # fmt: skip

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0,
    1e308, 5e-324, [], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, "2.0", "1",
    Raw("1e-999"), Raw('"\\u0000"'), Raw("[" * 100 + "]" * 100), Raw("[" + "0," * 2000 + "0]"),
    Raw('{"a":' * 100 + "1" + "}" * 100),
]  # fmt: skip

NO_VALUES = [Raw(text) for text in (
    "NaN", "Infinity", "-Infinity", "1e999", "-", "01", "1" * 5000, '"\\ud800"', '"\\udc00\\ud800"',
    '"\\x00"', "'x'", "undefined", "", "[" * 127 + "]" * 127, "[" * 20_000, '{"a":' * 3000,
    '{"a":' * 200 + "1" + "}" * 200,
)]  # fmt: skip
"""What no JSON reader may take, or what goes deeper than any request."""

NAMES = ["id", "method", "params", "_meta", "result", "error", "task", "progressToken", "cursor"]

HEADERS = [
    "Host", "Origin", "Accept", "Content-Type", "MCP-Protocol-Version", "Mcp-Session-Id",
    "Last-Event-ID", "Mcp-Method", "Mcp-Name", "Idempotency-Key", "Content-Length", "Expect",
    "Transfer-Encoding", "Connection", "Upgrade", "Content-Encoding", "Authorization",
]  # fmt: skip

HEADER_VALUES = [
    "*/*", "text/*", "application/json;q=0", "text/event-stream",
    "application/json; charset=utf-8",
    "text/plain", "chunked", "gzip", "close", "keep-alive", "upgrade", "websocket", "100-continue",
    "localhost", "[::1]", "[", "http://[::1", "http://evil.example", "null", "Bearer x", "5", "-5",
    "99999999999999999999", ",,,,", ";" * 300, "\xe9\xff", "a\tb", "\x01",
]  # fmt: skip

METHODS = ["GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD", "PATCH", "TRACE", "BREW", "PRI"]
PATHS = ["/", "/mcp/", "//mcp", "/mcp?x=%00", "/%6dcp", "/mcp/../mcp", "/healthz", "/readyz", "*",
         "http://127.0.0.1/mcp", "/mcp#x", "/" + "a" * 9000, "/\xe9", "mcp", "/%ff"]  # fmt: skip


def mutated(rng: Random, world: World) -> bytes:
    """An HTTP request with something wrong in it, as bytes; one in twenty is left as it is."""
    request = any_request(rng, world)
    kind = rng.random()
    if kind < 0.55:
        if isinstance(request.body, dict | list):
            request.body = wrong_json(rng, request.body)
        else:
            wrong_headers(rng, request)
    elif kind < 0.8:
        wrong_headers(rng, request)
    elif kind < 0.88 and request.body is not None:
        _, other = any_message(rng, world)
        request.body = wrong_bytes(rng, write(request.body), write(other))
    data = on_the_wire(request)
    if 0.88 <= kind < 0.95:
        other = on_the_wire(any_request(rng, world))
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            data = wrong_bytes(rng, data, other)
    return data


def hostile(rng: Random, world: World) -> bytes:
    """A request that is right but for what it offers, trails or is stuffed with, as bytes."""
    request = any_request(rng, world)
    if rng.random() < 0.5:
        at = rng.randrange(len(request.headers) + 1)
        request.headers[at:at] = rng.choice(OFFERS)
    if request.body is not None and rng.random() < 0.5:
        request.headers.append(("Transfer-Encoding", "chunked"))
        request.trailers = rng.choice([[], *TRAILERS])
    if isinstance(request.body, dict | list) and rng.random() < 0.5:
        request.body = stuffed(rng, request.body)
    data = on_the_wire(request)
    return data if rng.random() < 0.7 else data + on_the_wire(any_request(rng, world))


def stuffed(rng: Random, value: Any) -> Any:
    """A message with a value somewhere in it that holds a lot."""
    value = pairs_of(value)
    places = [(pairs, at) for pairs, at in _places(value) if isinstance(pairs, Pairs)]
    if places:
        pairs, at = rng.choice(places)
        pairs[at] = (pairs[at][0], Raw(stuffing(rng)))
    return value


def hostile_line(rng: Random, world: World) -> bytes:
    """A message for a pipe that is stuffed, without the newline behind it."""
    _, body = any_message(rng, world)
    return write(stuffed(rng, body))


def mutated_line(rng: Random, world: World) -> bytes:
    """A message for a pipe with something wrong in it, without the newline behind it."""
    _, body = any_message(rng, world)
    kind = rng.random()
    if kind < 0.6:
        return write(wrong_json(rng, body))
    if kind < 0.95:
        _, other = any_message(rng, world)
        return wrong_bytes(rng, write(body), write(other))
    return write(body)


def on_the_wire(request: Request) -> bytes:
    """A request as bytes, with a length that fits its body unless it has one already."""
    body = b""
    if request.body is not None:
        body = request.body if isinstance(request.body, bytes) else write(request.body)
    named = {name.lower() for name, _ in request.headers}
    lines = list(request.headers)
    if body and not named & {"content-length", "transfer-encoding"}:
        lines.append(("Content-Length", str(len(body))))
    if "chunked" in dict(lines).get("Transfer-Encoding", ""):
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        trailers = "".join(f"{name}: {value}\r\n" for name, value in request.trailers)
        body = chunk + b"0\r\n" + trailers.encode() + b"\r\n"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    first = f"{request.method} {request.path} HTTP/1.1\r\n"
    return f"{first}{head}\r\n".encode("utf-8", "surrogatepass") + body


# JSON


def wrong_json(rng: Random, value: Any) -> Any:
    """A message with one to three wrongs in it."""
    value = pairs_of(value)  # a copy: what is changed here belongs to nobody else
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        value = _wrong_once(rng, value)
    return value


def _wrong_once(rng: Random, value: Any) -> Any:
    places = list(_places(value))
    if not places or rng.random() < 0.05:
        return rng.choice([[value], [value, value], Pairs([("x", value)]), _any_value(rng)])
    # The later of two: what is inside params is looked at by more than what is around them.
    container, at = places[max(rng.randrange(len(places)), rng.randrange(len(places)))]
    if isinstance(container, Pairs):
        rng.choice(_ON_PAIRS)(rng, container, at)
    else:
        container[at] = _other_value(rng, container[at])
    return value


def _places(value: Any) -> Any:
    if isinstance(value, Pairs):
        for at, (_, inner) in enumerate(value):
            yield value, at
            yield from _places(inner)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield value, at
            yield from _places(inner)


def _replace(rng: Random, pairs: Pairs, at: int) -> None:
    name, inner = pairs[at]
    pairs[at] = (name, _other_value(rng, inner))


def _drop(_rng: Random, pairs: Pairs, at: int) -> None:
    del pairs[at]


def _rename(rng: Random, pairs: Pairs, at: int) -> None:
    pairs[at] = (wrong_text(rng, pairs[at][0]), pairs[at][1])


def _repeat(rng: Random, pairs: Pairs, at: int) -> None:
    name, inner = pairs[at]
    pairs.insert(rng.randrange(len(pairs) + 1), (name, rng.choice([inner, _any_value(rng)])))


def _add(rng: Random, pairs: Pairs, _at: int) -> None:
    pairs.append((rng.choice(NAMES), _any_value(rng)))


def _swap(rng: Random, pairs: Pairs, at: int) -> None:
    other = rng.randrange(len(pairs))
    (one, first), (two, second) = pairs[at], pairs[other]
    pairs[at], pairs[other] = (one, second), (two, first)


_ON_PAIRS: list[Callable[[Random, Pairs, int], None]] = [
    _replace, _replace, _replace, _drop, _drop, _rename, _repeat, _add, _swap,
]  # fmt: skip


def _other_value(rng: Random, value: Any) -> Any:
    if isinstance(value, str) and rng.random() < 0.5:
        return wrong_text(rng, value)
    if rng.random() < 0.1:
        return rng.choice(NO_VALUES)
    return rng.choice([_any_value(rng), _any_value(rng), [value], Pairs([("x", value)])])


def _any_value(rng: Random) -> Any:
    return pairs_of(rng.choice([*VALUES, rng.choice(TEXTS)]))


# Text, headers, bytes


def wrong_text(rng: Random, text: str) -> str:
    """A text that is nearly the same, or one that others have tripped over."""
    kind = rng.randrange(7)
    at = rng.randrange(len(text) + 1)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return text[:at] + rng.choice(TEXTS) + text[at:]
    if kind == 2:
        return text[:at]
    if kind == 3:
        return text[:at] + chr(rng.randrange(0x2100)) + text[at + 1 :]
    if kind == 4:
        return text + text
    if kind == 5:
        return text.swapcase()
    return text[::-1]


def wrong_headers(rng: Random, request: Request) -> None:
    """Change one to three headers, the method or the path."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        kind = rng.randrange(10)
        at = rng.randrange(len(request.headers)) if request.headers else 0
        if kind == 0:
            request.method = rng.choice(METHODS)
        elif kind == 1:
            request.path = rng.choice(PATHS)
        elif kind == 2 or not request.headers:
            request.headers.append((rng.choice(HEADERS), rng.choice(HEADER_VALUES)))
        elif kind == 3:
            del request.headers[at]
        elif kind == 4:
            request.headers.insert(rng.randrange(len(request.headers)), request.headers[at])
        elif kind == 5:
            request.headers += [("X-Many", "1")] * rng.choice([100, 2000])
        else:
            name, value = request.headers[at]
            other = rng.choice([*HEADER_VALUES, *TEXTS]) if kind < 8 else wrong_text(rng, value)
            request.headers[at] = (name, other)


def wrong_bytes(rng: Random, data: bytes, other: bytes) -> bytes:
    """Bytes flipped, lost, doubled, or crossed with those of `other`."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice([1, 1, 2, 8, 64, 512]))
    kind = rng.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:at] + data[at:end] * rng.choice([2, 3, 50]) + data[end:]
    if kind == 3:
        return data[:at] + rng.randbytes(rng.choice([1, 1, 2, 16])) + data[end:]
    if kind == 4:
        cut = rng.randrange(len(other) + 1)
        return data[:at] + other[cut:]
    if kind == 5:
        flipped = bytearray(data)
        for _ in range(rng.choice([1, 1, 4, 32])):
            if flipped:
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    return (
        data[:at]
        + rng.choice([b"\r\n\r\n", b"\0", b"\n", b"\xff\xfe", b"\xed\xa0\x80"])
        + data[at:]
    )
