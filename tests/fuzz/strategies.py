"""Hypothesis strategies for requests: any JSON where JSON may be, any text where text may be.

Where `mutate` goes a step away from what is valid, these start from nothing; Hypothesis shrinks
what breaks the server to the smallest request that does.
"""

from typing import Any

from hypothesis import strategies as st
from tests.fuzz.catalogue import (
    ACCEPT,
    NOTIFICATIONS,
    Request,
    World,
    calls,
    calls_2025,
    calls_2026,
)
from tests.fuzz.catalogue import envelope as valid_envelope
from tests.fuzz.jsontext import write
from tests.fuzz.mutate import HEADER_VALUES, HEADERS, NO_VALUES, TEXTS, VALUES, on_the_wire
from tests.kit.peers import META, MODERN, VERSIONS

texts = st.one_of(st.text(max_size=20), st.sampled_from(TEXTS))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.sampled_from(VALUES),
    st.sampled_from([*VALUES, *NO_VALUES]),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
header_texts = st.one_of(
    st.sampled_from(HEADER_VALUES),
    texts,
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40),
)
ids = st.one_of(st.integers(), texts, st.integers(0, 10**9), scalars)


@st.composite
def params(draw: st.DrawFn, known: dict[str, Any]) -> Any:
    """Params of a method, with some of their values made up."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(json_values)
    return {
        name: draw(json_values) if draw(st.integers(0, 2)) == 0 else value
        for name, value in known.items()
    }


@st.composite
def messages(draw: st.DrawFn, world: World, version: str) -> Any:
    """A JSON-RPC message that may have anything in any of its places."""
    own = calls_2026(world) if version == MODERN else calls_2025(world)
    known = [*calls(world), *own, *NOTIFICATIONS]
    method, given = draw(st.sampled_from(known))
    wanted: Any = draw(params(given))
    if version == MODERN and isinstance(wanted, dict) and draw(st.integers(0, 9)):
        wanted = valid_envelope(wanted)
        if draw(st.integers(0, 3)) == 0:
            wanted["_meta"][META + draw(st.sampled_from(_META_NAMES))] = draw(json_values)
    elif isinstance(wanted, dict) and draw(st.integers(0, 3)) == 0:
        wanted = {**wanted, "_meta": draw(st.dictionaries(_meta_names, json_values, max_size=3))}
    message = {"jsonrpc": "2.0", "id": draw(ids), "method": method, "params": wanted}
    if draw(st.integers(0, 9)) == 0:
        message[draw(st.sampled_from(["method", "jsonrpc", "result", "error"]))] = draw(json_values)
    if draw(st.integers(0, 9)) == 0:
        del message[draw(st.sampled_from(sorted(message)))]
    return message


_META_NAMES = ["protocolVersion", "clientCapabilities", "clientInfo", "logLevel", "subscriptionId"]
_meta_names = st.sampled_from(["progressToken", "headway/idempotency-key", *_META_NAMES])


@st.composite
def requests(draw: st.DrawFn, world: World) -> bytes:
    """An HTTP request as bytes."""
    version = draw(st.sampled_from([*VERSIONS, MODERN, MODERN]))
    session = draw(st.sampled_from([world[f"session-{version}"], "", "nobody's"]))
    headers = [
        ("Host", f"127.0.0.1:{world.port}"),
        ("Accept", ACCEPT),
        ("MCP-Protocol-Version", version),
    ]
    if version != MODERN:
        headers.append(("Mcp-Session-Id", world[f"session-{version}"] if session else session))
    if draw(st.integers(0, 5)) == 0:
        headers.append((draw(st.sampled_from(HEADERS)), draw(header_texts)))
    if draw(st.integers(0, 7)) == 0:
        return on_the_wire(Request("GET", [*headers, ("Last-Event-ID", draw(_event_ids(world)))]))
    kind = draw(st.integers(0, 11))
    body: Any = draw(messages(world, version)) if kind else draw(json_values)
    if kind == 1:
        body = [body, draw(messages(world, version))]
    if version == MODERN and isinstance(body, dict):
        headers += _routing(body)
    headers.append(("Content-Type", "application/json"))
    return on_the_wire(Request("POST", headers, body))


def _routing(body: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("Mcp-Method", str(body.get("method")))]
    params = body.get("params")
    if isinstance(params, dict):
        name = params.get("name") or params.get("uri")
        found += [("Mcp-Name", name)] if type(name) is str else []
    return found


def _event_ids(world: World) -> st.SearchStrategy[str]:
    known = st.sampled_from([world["event"], world["own-event"]])
    changed = st.tuples(known, st.integers(0, 3), header_texts).map(_with_part)
    return st.one_of(known, changed, header_texts)


def _with_part(drawn: tuple[str, int, str]) -> str:
    """An event id with one of its parts made up."""
    text, number, part = drawn
    parts = text.split(".")
    parts[number % len(parts)] = part
    return ".".join(parts)


@st.composite
def lines(draw: st.DrawFn, world: World) -> bytes:
    """A message on a pipe, without the newline behind it."""
    version = draw(st.sampled_from(["2025-11-25", MODERN]))
    return write(draw(messages(world, version)))
