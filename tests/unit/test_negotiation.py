"""`Accept`: which form an answer has."""

import pytest

from headway.errors import ProtocolError
from headway.transport.http.accept_header import Form, need_stream, response_form


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/json, text/event-stream", Form.ANY),
        ("application/json;q=0.9,text/event-stream;q=1", Form.ANY),
        ("*/*", Form.ANY),
        ("text/*, application/*", Form.ANY),
        ("text/html, */*;q=0.1", Form.ANY),
        ("", Form.ANY),
        (" , ", Form.ANY),
        ("application/json", Form.JSON),
        ("Application/JSON; charset=utf-8", Form.JSON),
        ("application/*;q=0.9", Form.JSON),
        ("*/*, text/event-stream;q=0", Form.JSON),
        ("*/*;q=0.5, text/*;q=0.0", Form.JSON),
        ("text/event-stream", Form.STREAM),
        ("text/event-stream, text/html", Form.STREAM),
        ("application/json;q=0, text/*", Form.STREAM),
        ("*/*;q=0, text/event-stream;q=0.001", Form.STREAM),
    ],
)
def test_an_answer_has_the_form_that_its_client_takes(accept: str, form: Form):
    assert response_form({"accept": accept}) is form


def test_a_client_that_says_nothing_takes_anything():
    assert response_form({}) is Form.ANY


@pytest.mark.parametrize(
    "accept", ["text/html", "image/*", "*/*;q=0", "application/json;q=0", "json", ";;;", "*"]
)
def test_a_client_that_takes_neither_form_is_told_both(accept: str):
    with pytest.raises(ProtocolError, match="application/json, text/event-stream") as refusal:
        response_form({"accept": accept})
    assert refusal.value.status == 406


@pytest.mark.parametrize(
    ("accept", "takes"), [("text/event-stream", True), ("*/*", True), ("application/json", False)]
)
def test_what_can_only_be_a_stream_is_for_who_takes_one(accept: str, takes: bool):
    if takes:
        need_stream({"accept": accept}, "GET")
    else:
        with pytest.raises(ProtocolError, match="GET is answered with text/event-stream"):
            need_stream({"accept": accept}, "GET")
