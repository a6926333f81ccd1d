"""The pages of guarantees and of threats name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = "".join(
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("guarantees", "threat-model")
)
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGES)


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


def test_every_threat_names_a_test() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text()
    rows = [row for part in page.split("| threat |")[1:] for row in part.splitlines()[2:]]
    held = [row for row in rows if row.startswith("| ")]
    assert len(held) >= 25
    assert [row for row in held if "`tests/" not in row] == []


def test_every_file_that_is_named_is_there() -> None:
    files = set(re.findall(r"`(tests/[\w/]+\.py)", PAGES))
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
