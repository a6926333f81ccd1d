"""`key=value` against a tool's schema."""

from typing import Any

import pytest

from headway.cli.client.arguments import check_arguments, collect_arguments, types_of
from headway.cli.exit_codes import Refused

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "number": {"type": "integer"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "items": {"type": "array", "items": {"type": "integer"}},
        "level": {"$ref": "#/$defs/Level"},
        "anything": {},
    },
    "required": ["text"],
    "$defs": {"Level": {"enum": ["1", "2"]}},
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=5", "5"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("number=5", 5),
        ("number=five", "five"),
        ("maybe=null", None),
        ("maybe=5", "5"),
        ('maybe="quoted"', "quoted"),
        ("either=5", 5),
        ("either=five", "five"),
        ("items=[1, 2]", [1, 2]),
        ("level=1", "1"),
        ("anything=true", True),
        ("anything={", "{"),
    ],
)
def test_a_value_is_json_where_the_schema_allows_its_type(pair: str, value: object):
    assert list(collect_arguments([pair], None, SCHEMA).values()) == [value]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["text"], "'text' is not key=value"),
        (["=5"], "'=5' is not key=value"),
        (["text=a", "text=b"], "'text' is given twice"),
        (["txet=a"], "there is no argument 'txet', only text, number"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(pairs: list[str], says: str):
    with pytest.raises(Refused, match=says):
        collect_arguments(pairs, None, SCHEMA)


def test_a_key_is_free_where_the_schema_is_open():
    assert collect_arguments(["x=1"], None, {"additionalProperties": True}) == {"x": 1}


def test_a_document_is_taken_as_it_is():
    assert collect_arguments([], '{"unknown": [1]}', SCHEMA) == {"unknown": [1]}


@pytest.mark.parametrize(("document", "says"), [("{", "is not JSON"), ("[1]", "must be an object")])
def test_a_document_that_is_no_object_is_refused(document: str, says: str):
    with pytest.raises(Refused, match=says):
        collect_arguments([], document, SCHEMA)


def test_pairs_and_a_document_together_are_refused():
    with pytest.raises(Refused, match="not both"):
        collect_arguments(["text=a"], "{}", SCHEMA)


def test_a_wrong_type_is_refused_with_its_place():
    with pytest.raises(Refused, match=r"count does not take .*items\.1: 'x' is not of type"):
        check_arguments("count", {"text": "", "items": [1, "x"]}, SCHEMA)


def test_a_missing_argument_is_refused_by_name():
    with pytest.raises(Refused, match="'text' is a required property"):
        check_arguments("count", {}, SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"properties": {"x": {"$ref": "https://schema.invalid/x"}}},
        {"properties": {"x": {"$ref": "#/$defs/missing"}}},
    ],
)
def test_a_broken_schema_refuses_nothing(schema: dict[str, Any]):
    check_arguments("count", {"x": 1}, schema)


def test_a_schema_that_refers_to_itself_says_nothing():
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert types_of({"$ref": "#/$defs/a"}, schema) == frozenset()
