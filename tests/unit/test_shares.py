"""Who makes room in a journal that is full."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.journal.eviction import bytes_to_free, owner_of
from headway.journal.sqlite.trimming import OWNER

HELD = st.dictionaries(st.text("abc", max_size=3), st.integers(0, 10_000), max_size=8)
NAMES = st.text("ab/.-_é", max_size=12)


@pytest.mark.parametrize(
    ("stream", "owner"),
    [
        ("run/alice/1", "alice"),
        ("run/alice.session/1", "alice"),
        ("key/alice/2", "alice"),
        ("session/alice.session", "alice"),
        ("process/tag", "tag"),
        ("changes", ""),
        ("check:1", ""),
        ("", ""),
    ],
)
def test_whose_a_stream_is_stands_behind_its_kind(stream: str, owner: str) -> None:
    assert owner_of(stream) == owner


@given(NAMES)
def test_a_journal_file_tells_owners_as_all_others_do(name: str) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        found = db.execute(f"SELECT {OWNER} FROM (SELECT ? AS name)", [name]).fetchone()
    assert found == (owner_of(name),)


def test_nobody_gives_up_anything_where_all_fits() -> None:
    assert bytes_to_free({"a": 60, "b": 40}, 100) == {}


def test_who_holds_most_gives_up_first() -> None:
    assert bytes_to_free({"a": 10, "b": 20, "c": 100}, 100) == {"c": 30}


def test_those_who_hold_most_come_down_to_one_level() -> None:
    assert bytes_to_free({"a": 10, "b": 80, "c": 90}, 100) == {"b": 35, "c": 45}


@given(HELD, st.integers(0, 20_000))
def test_who_holds_less_than_an_equal_share_gives_up_nothing(
    held: dict[str, int], most: int
) -> None:
    due = bytes_to_free(held, most)
    assert all(0 < due[owner] <= held[owner] for owner in due)
    assert sum(held.values()) - sum(due.values()) <= max(most, 0)
    for owner in due:
        assert held[owner] > most // len(held)


@given(HELD, st.integers(0, 20_000))
def test_no_more_is_given_up_than_has_to_be(held: dict[str, int], most: int) -> None:
    left = sum(held.values()) - sum(bytes_to_free(held, most).values())
    assert left >= min(sum(held.values()), most) - len(held)  # whole bytes for each
