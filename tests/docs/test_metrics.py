"""The page of metrics says all of them, and none that is not there; that of limits likewise."""

import re
from pathlib import Path

import pytest

from headway.observability.metrics import COUNTERS, GAUGES, HISTOGRAMS
from headway.settings import BOUNDS

DOCS = Path(__file__).parents[2] / "docs"
METRICS = (DOCS / "reference" / "metrics.md").read_text()
BEHAVIOUR = (DOCS / "server-behaviour.md").read_text()
ROWS = re.findall(r"^\| `(headway_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", METRICS, re.MULTILINE)


def test_the_table_of_metrics_is_complete_and_true() -> None:
    families = [
        *((f.name, "gauge", f) for f in GAUGES),
        *((f"{f.name}_total", "counter", f) for f in COUNTERS),
        *((f.name, "histogram", f) for f in HISTOGRAMS),
    ]
    rows = [
        (name, kind, ", ".join(f"`{label}`" for label in f.labels), f.says.rstrip("."))
        for name, kind, f in families
    ]
    assert rows == ROWS


@pytest.mark.parametrize("setting", BOUNDS)
def test_the_table_of_limits_names_every_setting_of_one(setting: str) -> None:
    section = BEHAVIOUR.partition("## Limits")[2].partition("\n## ")[0]
    assert f"`{setting}`" in section
