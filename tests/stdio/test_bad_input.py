"""What no client should send: it is answered, and nothing behind it is lost."""

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.stdio import META, piped

from headway import Headway, Settings
from headway.protocol.line_buffer import LineBuffer

pytestmark = pytest.mark.anyio

SETTINGS = Settings(max_body=10_000)
PING = b'{"jsonrpc":"2.0","id":"after","method":"ping"}\n'
DEEP = b"[" * 5000 + b"]" * 5000


def make() -> Headway:
    mcp = Headway("plain")

    @mcp.tool()
    def echo(text: str) -> str:
        return text

    return mcp


@pytest.mark.parametrize(
    ("line", "code", "identity"),
    [
        (b"not json", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', -32700, None),
        (b"\xff\xfe{\x00}\x00", -32700, None),
        (b"\x00", -32700, None),
        (b'{"a":' * 4000 + b"1" + b"}" * 4000, -32600, None),
        (DEEP[:9000], -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 200 + b"]" * 200 + b"}",
         -32700, None),
        (b'"text"', -32600, None),
        (b"null", -32600, None),
        (b"{}", -32600, None),
        (b"[]", -32600, None),
        (b'{"jsonrpc":"1.0","id":5,"method":"ping"}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":5,"method":7}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":"x","method":"ping","params":[1]}', -32600, "x"),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":[],"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":"%b","method":"ping"}' % (b"i" * 600), -32600, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"' + b"m" * 20_000 + b'"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":8,"method":"tools/list","params":{"_meta":{"%bprotocolVersion"'
         b':"2026-07-28"}}}' % META.encode(), -32602, 8),
        (b'{"jsonrpc":"2.0","id":9,"method":"tools/list","params":{"_meta":{"%bprotocolVersion"'
         b':"1900-01-01","%bclientCapabilities":{}}}}' % (META.encode(), META.encode()),
         -32022, 9),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)  # fmt: skip
async def test_a_bad_line_is_refused_and_the_next_line_is_answered(
    line: bytes, code: int, identity: Any
):
    async with piped(make(), SETTINGS) as client:
        await client.raw(line + b"\n" + PING)
        await client.answer("after")
        [refusal] = [m for m in client.heard if "error" in m]
        assert (refusal["error"]["code"], refusal["id"]) == (code, identity)


@pytest.mark.parametrize(
    "data",
    [
        PING.replace(b"\n", b"\r\n"),
        b"\n\r\n  \t\n" + PING,
        b"\xef\xbb\xbf" + PING,
        b"  " + PING,
        b'{"jsonrpc":"2.0","method":"notifications/unheard-of"}\n' + PING,
        b'{"jsonrpc":"2.0","id":"nobody asked","result":{}}\n' + PING,
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1]}}\n' + PING,
        b'{"jsonrpc":"2.0","method":"notifications/cancelled"}\n' + PING,
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n' + PING,
    ],
    ids=str,
)
async def test_an_unusual_line_is_tolerated(data: bytes):
    async with piped(make(), SETTINGS) as client:
        await client.raw(data)
        await client.answer("after")
        assert len(client.heard) == 1


@pytest.mark.parametrize("answer", ["result", "error"])
async def test_an_answer_that_nobody_waits_for_is_ignored_in_a_session(answer: str):
    async with piped(make(), SETTINGS) as client:
        await client.shake_hands()
        await client.say({"jsonrpc": "2.0", "id": "unknown", answer: {}})
        await client.raw(PING)
        await client.answer("after")
        assert not [m for m in client.heard if "error" in m]


async def test_bytes_one_by_one_and_many_lines_at_once_are_the_same():
    async with piped(make(), SETTINGS) as client:
        await client.shake_hands()
        for byte in PING.replace(b"after", b"slowly"):
            await client.raw(bytes([byte]))
        await client.answer("slowly")
        messages = [client.message("ping", id=number) for number in range(300)]
        await client.raw(b"".join(json.dumps(m).encode() + b"\n" for m in messages))
        for number in range(300):
            await client.answer(number)


async def test_a_last_line_without_a_newline_is_answered():
    async with piped(make(), SETTINGS) as client:
        await client.raw(PING.strip())
        client.close()
        await client.answer("after")


async def test_garbage_does_not_end_the_connection():
    async with piped(make(), SETTINGS) as client:
        for _ in range(20):
            await client.raw(os.urandom(5000).replace(b"\n", b"") + b"\n")
        await client.raw(PING)
        await client.answer("after")


@given(st.lists(st.binary(max_size=30)), st.data())
def test_lines_do_not_depend_on_how_the_bytes_are_cut(lines: list[bytes], data: st.DataObject):
    whole = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    buffer = LineBuffer(20)
    found: list[bytes | None] = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += buffer.feed(whole[start:end])
    found += buffer.finish()
    expected = LineBuffer(20)
    assert found == expected.feed(whole) + expected.finish()
    kept = [line.removeprefix(b"\xef\xbb\xbf").strip() for line in whole.split(b"\n")]
    assert [line for line in found if line is not None] == [
        short
        for short, line in zip(kept, whole.split(b"\n"), strict=True)
        if short and len(line) <= 20
    ]
