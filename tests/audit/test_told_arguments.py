"""Whatever the arguments are, what stands below a secret name is told nowhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.audit.told_arguments import tell_arguments, without_tokens

SECRET = "qX7-secret\n\"'\\ütext"
PLAIN = st.none() | st.booleans() | st.integers() | st.text(alphabet="abc ", max_size=8)
NAMES = st.sampled_from(["a", "b", "note", "path", "list"])
HIDDEN_NAMES = st.sampled_from(["password", "DB-Password", "my_token_2", "X-Api-Key", "pin"])


def below_a_secret_name(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(HIDDEN_NAMES, children, max_size=2)


SECRETS = st.recursive(
    st.just(SECRET),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=3)
        | below_a_secret_name(SECRETS)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("told", ["names", "hashes", "values"])
@given(arguments=st.dictionaries(NAMES | HIDDEN_NAMES.map(lambda _: "note"), VALUES, max_size=4))
def test_a_secret_is_in_no_form_of_the_arguments(told: Any, arguments: dict[str, Any]) -> None:
    arguments = {**arguments, "secret": SECRET, "said": f"it is {SECRET}!"}
    found = tell_arguments(arguments, told, ["PIN"])
    text = json.dumps(found.shown, ensure_ascii=False)
    assert "qX7" not in text
    forms = f"no {SECRET} {SECRET!r} {json.dumps(SECRET)} {json.dumps(SECRET, ensure_ascii=False)}"
    assert "qX7" not in without_tokens(forms, found.secrets)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("asked with Bearer abc.def", "asked with ***"),
        ("eyJhbGciOi.eyJzdWIi.c2ln is expired", "*** is expired"),
        ("postgres://me:pw@db/x and redis://:pw@r:1", "postgres://***@db/x and redis://***@r:1"),
        ("hw_" + "a" * 43, "***"),
        ("Basic dXNlcjpwYXNz==", "***"),
        ("a basic question, a bearing and https://a.example/@x", None),
    ],
)
def test_what_looks_like_a_token_is_hidden_and_other_texts_stay(
    text: str, shown: str | None
) -> None:
    assert without_tokens(text) == (text if shown is None else shown)


def test_what_is_looked_at_is_bounded() -> None:
    wide: dict[str, Any] = {"a": [[n, {"password": "hidden-secret"}] for n in range(100_000)]}
    deep: Any = "end"
    for _ in range(60):
        deep = [deep]
    found = tell_arguments({**wide, "deep": deep}, "values", [])
    text = json.dumps(found.shown)
    assert len(text) < 5000
    assert "hidden-secret" not in text
    assert len(found.secrets) <= 50


def test_long_names_and_texts_are_not_read_to_their_end() -> None:
    long = "z" * 3_000_000
    arguments: dict[str, Any] = {
        long: "own", "path": {long: "below"}, "note": f"{'a' * 990}{SECRET * 100}",
        "password": [SECRET * 100, long, SECRET],
    }  # fmt: skip
    found = tell_arguments(arguments, "values", ["*a*b*c*d*"])
    text = json.dumps(found.shown, ensure_ascii=False)
    assert len(text) < 5000
    assert "own" not in text
    assert "qX7" not in text
    assert sum(map(len, found.secrets)) < 100_000
