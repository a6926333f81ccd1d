"""The page of guarantees names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text())


def test_every_promise_names_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines()
            if line.startswith("| **")]  # fmt: skip
    assert all("::test_" in row for row in rows)
    assert len(rows) >= 10


def test_every_scenario_names_a_test_in_each_era_that_it_concerns() -> None:
    rows = re.findall(r"^\| \d+ \| .* \| (.*) \| (.*) \|$",
                      (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)  # fmt: skip
    assert len(rows) >= 20
    for eras in rows:
        assert all(era == "—" or "::test_" in era for era in eras)
        assert any("::test_" in era for era in eras)


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
