"""The page of numbers says all of them, and none that is not there."""

import re
from pathlib import Path

import pytest

from headway.observability.metrics import COUNTERS, GAUGES, HISTOGRAMS
from headway.settings import BOUNDS

PAGE = (Path(__file__).parents[2] / "docs" / "server-behaviour.md").read_text()
ROWS = re.findall(r"^\| `(headway_\w+)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)


def test_the_table_of_metrics_is_complete_and_true() -> None:
    families = [
        *((f.name, f) for f in GAUGES),
        *((f"{f.name}_total", f) for f in COUNTERS),
        *((f.name, f) for f in HISTOGRAMS),
    ]
    rows = [
        (name, ", ".join(f"`{label}`" for label in f.labels), f.says.rstrip("."))
        for name, f in families
    ]
    assert rows == ROWS


@pytest.mark.parametrize("setting", BOUNDS)
def test_the_table_of_limits_names_every_setting_of_one(setting: str) -> None:
    section = PAGE.partition("## Limits")[2].partition("\n## ")[0]
    assert f"`{setting}`" in section
