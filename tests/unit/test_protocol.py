"""The protocol's pure functions: bodies, event ids, rendering."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import ProtocolError
from headway.events import (
    Cancelled,
    Completed,
    Entry,
    Failed,
    InputRequested,
    Interrupted,
    Log,
    Notified,
    Part,
    Progress,
    Started,
    encode_json,
)
from headway.protocol import render
from headway.protocol.eras import ERAS, LOG_LEVELS, MODERN, NO_LOGS, Era, rank_of
from headway.protocol.event_ids import (
    RunCursor,
    SessionCursor,
    parse_event_id,
    run_prefix,
    session_prefix,
)
from headway.protocol.header_lines import read_headers
from headway.protocol.json_text import measure_json
from headway.protocol.jsonrpc_message import is_id, parse_body, read_message
from headway.stream_names import tag_of
from headway.transport.http.json_or_sse import SseRendering

OLD = ERAS["2025-06-18"]
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)
ids = st.one_of(st.integers(-(2**62), 2**62), st.text(max_size=100))


def reader(
    era: Era = OLD,
    *,
    token: str | int | None = "t",
    rank: int = 0,
    identity: str | int = 7,
) -> render.Reader:
    return render.Reader(identity, token, era, lambda: rank)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_refusal(body):
    try:
        message = read_message(parse_body(body, 16, 1000))
    except ProtocolError as refusal:
        assert refusal.status == 400
        assert refusal.message
    else:
        assert message.method is not None or message.id is not None


@given(json_values)
def test_any_json_is_a_message_or_a_refusal(value):
    body = json.dumps(value).encode()
    try:
        read_message(parse_body(body, 16, 1000))
    except ProtocolError as refusal:
        assert refusal.status == 400


def inside(item: Any) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []


def depth(item: Any) -> int:
    is_container = isinstance(item, dict | list)
    return max(map(depth, inside(item)), default=0) + is_container


def containers(item: Any) -> int:
    return sum(map(containers, inside(item))) + isinstance(item, dict | list)


marks = st.text(st.sampled_from('"\\[]{},a'), max_size=6)
marked = st.recursive(
    st.one_of(marks, st.integers(), st.none()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(marks, inner, max_size=4),
    max_leaves=20,
)


@given(marked, st.booleans())
def test_what_a_text_holds_is_counted_as_a_recursive_reader_would(value, with_blanks):
    text = json.dumps(value, separators=None if with_blanks else (",", ":")).encode()
    found = measure_json(text, 10_000)
    assert (found.containers, found.depth) == (containers(value), depth(value))
    most = containers(value) - 1
    assert most < 0 or measure_json(text, most).containers > most


def test_nesting_is_refused_however_deep_it_is():
    for levels in (129, 100_000):
        with pytest.raises(ProtocolError, match="nested too deeply"):
            parse_body(b"[" * levels + b"]" * levels, 128, 10**6)
    assert depth(parse_body(b"[" * 128 + b"]" * 128, 128, 10**6)) == 128


def test_header_values_lose_the_blanks_around_them():
    assert read_headers([(b"Mcp-Name", b"  echo \t")]) == {"mcp-name": "echo"}


def test_headers_stay_apart_whatever_a_server_lets_through() -> None:
    """A parser refuses a line end in a value; another server's may not."""
    lines = [(b"a", b"1\nb\n2"), (b"b", b"3"), (b"A", b"4")]
    assert read_headers(lines) == {"a": "1\nb\n2, 4", "b": "3"}
    assert read_headers([(b"a", b"1\n2")]) == {"a": "1\n2"}
    assert read_headers([]) == {}


@pytest.mark.parametrize("bad", [None, True, 1.5, [], {}, "x" * 513, 2**63])
def test_what_cannot_be_an_id_is_none(bad):
    assert not is_id(bad)


@given(ids, st.one_of(st.none(), ids), st.integers(0, 10**12))
def test_an_event_id_brings_back_the_whole_address(identity, token, seq):
    text = (run_prefix("aB-_9", identity, token) + b"%d" % seq).decode()
    assert parse_event_id(text) == RunCursor("aB-_9", identity, token, seq)
    assert all(33 <= ord(character) < 127 for character in text)


def test_an_event_id_of_a_session_stream_names_its_session():
    tag = tag_of("secret")
    assert "secret" not in tag
    assert parse_event_id((session_prefix(tag) + b"12").decode()) == SessionCursor(tag, 12)


@given(st.text(max_size=60))
def test_any_other_text_is_refused_as_an_event_id(text):
    try:
        parse_event_id(text)
    except ProtocolError as refusal:
        assert refusal.status == 400


@pytest.mark.parametrize(
    "text", ["", "1", "a.b", "a.b.c", "a.!!.1", "a.WzEsMl0.-1", "a.WzEsMl0.٣", "a.e30.1", "a.Ww.1"]
)
def test_garbled_event_ids_are_refused(text):
    with pytest.raises(ProtocolError, match="names no event"):
        parse_event_id(text)


EVENTS = [
    (Progress(1, 2, "m"), {"progressToken": "t", "progress": 1, "total": 2, "message": "m"}),
    (Log("info", encode_json("x"), "lib"), {"level": "info", "data": "x", "logger": "lib"}),
    (Part(encode_json({"a": 1})), {"level": "info", "data": {"a": 1}, "logger": "headway.part"}),
    (Notified("notifications/x", encode_json({"b": 2})), {"b": 2}),
    (InputRequested("k.1", "roots/list", encode_json({"c": 3})), {"c": 3}),
]


@pytest.mark.parametrize(("event", "params"), EVENTS)
def test_events_become_messages(event, params):
    data = render.render_event(event, reader())
    assert data is not None
    message = msgspec.json.decode(data)
    assert message["jsonrpc"] == "2.0"
    assert message["params"] == params


def test_ends_become_responses_with_the_reader_s_own_id():
    ends = [
        (Completed(encode_json({"ok": True})), {"result": {"ok": True}}),
        (Failed(-32001, "late"), {"error": {"code": -32001, "message": "late"}}),
        (
            Interrupted("gone"),
            {"error": {"code": -32603, "message": "The call was interrupted: gone"}},
        ),
        (
            Cancelled("client"),
            {"error": {"code": -32800, "message": "Request cancelled"}},
        ),
    ]
    for event, expected in ends:
        data = render.render_event(event, reader(identity="seven"))
        assert data is not None
        assert msgspec.json.decode(data) == {"jsonrpc": "2.0", "id": "seven", **expected}


@pytest.mark.parametrize("era", [OLD, MODERN])
def test_a_reader_of_a_cancelled_run_gets_an_error(era: Era):
    data = render.render_event(Cancelled("server", "stopping"), reader(era))
    assert data is not None
    error = {"code": -32800, "message": "Request cancelled: stopping"}
    assert msgspec.json.decode(data)["error"] == error


def test_nothing_internal_is_rendered():
    assert render.render_event(Started(), reader()) is None


def test_progress_goes_to_token_holders_only():
    assert render.render_event(Progress(1), reader(token=None)) is None
    assert render.render_event(Progress(1), reader(token=0)) is not None


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_logs_and_parts_pass_from_the_level_asked_for(level):
    passed = [
        name for name in LOG_LEVELS
        if render.render_event(Log(name, encode_json(1)), reader(rank=rank_of(level))) is not None
    ]  # fmt: skip
    assert passed == list(LOG_LEVELS[LOG_LEVELS.index(level) :])
    has_part = render.render_event(Part(encode_json(1)), reader(rank=rank_of(level))) is not None
    assert has_part == (level in ("debug", "info"))


def test_no_level_means_no_logs():
    assert rank_of(None) == rank_of("loud") == rank_of(3) == NO_LOGS
    assert render.render_event(Log("emergency", encode_json(1)), reader(rank=NO_LOGS)) is None


@given(st.text(), st.text())
def test_a_frame_is_read_back_as_it_was_whatever_its_text(message, token):
    voice = SseRendering(reader(token=token[:500]), prefix=b"p.")
    data = encode_json({"text": message})
    for event in (Progress(1, None, message), Log("info", data), Completed(data)):
        frame = voice.frame_of(Entry(3, 0.0, event))
        assert frame is not None
        lines = frame.decode().splitlines()  # splits at every Unicode line end there is
        assert lines[0] == "id: p.3"
        assert lines[1] == "event: message"
        assert lines[3:] == [""]
        body = json.loads(lines[2].removeprefix("data: "))
        found = body.get("params", body.get("result", {}))
        assert message in (found.get("message"), found.get("text"), *_texts(found.get("data")))


def _texts(data):
    return [data["text"]] if isinstance(data, dict) else []


def test_the_era_table_says_what_the_revisions_say():
    assert [v for v, era in ERAS.items() if era.primes] == ["2025-11-25"]
    assert [v for v, era in ERAS.items() if era.takes_batches] == ["2025-03-26"]
    assert [v for v, era in ERAS.items() if era.cut_cancels] == ["2026-07-28"]
    assert [v for v, era in ERAS.items() if not era.has_sessions] == ["2026-07-28"]
