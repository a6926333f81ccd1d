"""Bytes of a stream as whole events, whatever pieces they come in."""

import pytest

from headway.cli.client.event_blocks import EventSplitter

STREAM = (
    b'id: 1\nretry: 1500\ndata:\n\n: ping\n\nid: 2\ndata: {"a": 1}\ndata: more\n\ndata: no id\n\n'
)
MIXED = STREAM.replace(b"\n\n", b"\n\r\n")
STREAMS = {
    "mixed": MIXED,
    "lf": STREAM,
    "crlf": STREAM.replace(b"\n", b"\r\n"),
    "cr": STREAM.replace(b"\n", b"\r"),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_events_are_found_in_pieces_of_any_size(stream: bytes, size: int):
    splitter = EventSplitter()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    found = [event for piece in pieces for event in splitter.feed(piece)]
    assert [(event.id, event.retry) for event in found] == [
        ("1", 1.5),
        (None, None),
        ("2", None),
        (None, None),
    ]
    assert b"".join(event.data for event in found) == stream


def test_what_was_cut_off_in_the_middle_is_no_event():
    splitter = EventSplitter()
    assert [event.id for event in splitter.feed(b"id: 1\n\nid: 2\ndata: ha")] == ["1"]


def test_a_time_may_have_any_number_of_digits():
    found = list(EventSplitter().feed(b"retry: " + b"9" * 5000 + b"\n\n"))
    assert [event.retry for event in found] == [float("inf")]


def test_an_id_may_be_taken_back():
    assert [event.id for event in EventSplitter().feed(b"id\ndata: x\n\nid:\n\n")] == ["", ""]
