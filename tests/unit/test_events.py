"""Events come back from their stored form as they went in."""

from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.events import (
    TERMINAL,
    Accepted,
    Completed,
    Entry,
    Event,
    Failed,
    Log,
    Part,
    Progress,
    RequestStored,
    Restarted,
    RestartSummary,
    SessionOpened,
    Terminal,
    decode_entries,
    decode_json,
    encode_entries,
    encode_json,
    size_of,
)

STORED = RequestStored("tools/call", "work", "owner", "v", encode_json({"a": "x" * 500}))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


LEAVES: dict[object, st.SearchStrategy[object]] = {
    msgspec.Raw: st.builds(encode_json, JSON),
    str: TEXT,
    float: FINITE,
    bool: st.booleans(),
    int: st.integers(-32768, 32767),
    type(None): st.none(),
}


def _field(kind: object) -> st.SearchStrategy[object]:
    origin, inside = get_origin(kind), [_field(leaf) for leaf in get_args(kind)]
    if origin is list:
        return st.lists(inside[0], max_size=2)
    if origin is dict:
        return st.dictionaries(*inside, max_size=2)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _events(kind)
    return st.one_of(inside) if inside else LEAVES[kind]


def _events(kind: type) -> st.SearchStrategy[Any]:
    fields = {
        field.name: _field(field.type) | (st.none() if field.default is None else st.nothing())
        for field in msgspec.structs.fields(kind)
    }
    return st.builds(kind, **fields)


EVENTS = st.one_of([_events(kind) for kind in get_args(Event)])


@settings(max_examples=60, database=None)
@given(st.lists(st.builds(Entry, st.integers(1, 2**53), FINITE, EVENTS), max_size=4))
def test_entries_come_back_as_they_were(entries: list[Entry]) -> None:
    again = decode_entries(encode_entries(entries))
    assert [encode_entries([entry]) for entry in again] == [encode_entries([e]) for e in entries]
    assert [type(entry.event) for entry in again] == [type(entry.event) for entry in entries]


@settings(max_examples=50, database=None)
@given(JSON)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("\udc80", "\ufffd"),
        (["a\ud800b"], ["a\ufffdb"]),
        ({"\udfff": ("\udc80", 1)}, {"\ufffd": ["\ufffd", 1]}),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
def test_a_lone_surrogate_in_json_becomes_a_replacement(value: object, stored: object) -> None:
    assert decode_json(encode_json(value)) == stored


@pytest.mark.parametrize(
    "event",
    [
        Accepted("tools/call", "\udc80", owner="\ud800"),
        Progress(1, None, "file \udcff"),
        Log("info", encode_json("\udc80"), logger="\udc80"),
        Failed(-32000, "\udc80", encode_json(["\udc80"])),
    ],
)
def test_a_lone_surrogate_in_an_event_does_not_stop_the_others(event: Event) -> None:
    entries = [Entry(1, 1.0, Progress(1)), Entry(2, 2.0, event)]
    first, second = decode_entries(encode_entries(entries))
    assert first == entries[0]
    assert type(second.event) is type(event)
    assert "\ufffd".encode() in encode_entries([second])


def test_an_event_of_an_older_release_gets_the_defaults() -> None:
    stored = b'[[1,2.0,{"type":"accepted","method":"tools/call"}]]'
    assert decode_entries(stored) == [Entry(1, 2.0, Accepted("tools/call"))]


def test_a_field_of_a_newer_release_is_skipped() -> None:
    stored = b'[[1,2.0,{"type":"progress","progress":1.0,"eta":3}]]'
    assert decode_entries(stored) == [Entry(1, 2.0, Progress(1.0))]


def test_json_that_passes_through_keeps_its_bytes() -> None:
    raw = msgspec.Raw(b'{"b": 1,  "a":1.50}')
    again = decode_entries(encode_entries([Entry(1, 1.0, Completed(raw))]))[0].event
    assert isinstance(again, Completed)
    assert bytes(again.result) == bytes(raw)


def test_the_terminal_events_are_those_of_their_type() -> None:
    assert frozenset(get_args(Terminal)) == TERMINAL


def test_tags_are_unique() -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(Event)]
    assert len(set(tags)) == len(tags)


def test_a_size_grows_with_what_is_in_the_event() -> None:
    small, large = Part(encode_json("x")), Part(encode_json("x" * 1000))
    assert size_of(large) - size_of(small) == 999
    assert size_of(Progress(1, message="x" * 50)) - size_of(Progress(1)) == 50


@pytest.mark.parametrize(
    "event",
    [
        Accepted("tools/call", "work", arguments=["x" * 100] * 32),
        SessionOpened("v", encode_json({}), subscriptions={"x" * 2000: 1, "y" * 2000: 2}),
        RestartSummary(STORED, [Restarted("p", 2)] * 10, 0, {"t": ["x" * 22] * 100}),
    ],
)
def test_a_size_counts_what_is_in_lists_and_names(event: Event) -> None:
    stored = len(encode_entries([Entry(1, 1.0, event)]))
    assert stored / 2 < size_of(event) < stored * 2
