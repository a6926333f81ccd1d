"""The page on architecture against the code: each room is named, and what is named is there."""

import re
from pathlib import Path

from headway.events import Event
from headway.run_state import TRANSITIONS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "headway"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = re.compile(r"`([a-z_0-9/]+(?:\.py|/))`")


def test_each_package_is_named() -> None:
    packages = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("__init__.py")}
    named = {each.rstrip("/") for each in NAMED.findall(PAGE)}
    missing = {
        str(package)
        for package in packages
        if str(package) not in ("", ".") and not named & {str(package), package.name}
    }
    assert not missing - {"tools/search", "tools/web"}


def test_each_module_that_is_named_is_there() -> None:
    files = [path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")]
    folders = {path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")}
    for each in set(NAMED.findall(PAGE)):
        if each.endswith("/"):
            assert any(f"/{folder}".endswith(f"/{each[:-1]}") for folder in folders), each
        else:
            assert any(f"/{file}".endswith(f"/{each}") for file in files), each


def test_the_chart_of_states_is_the_table_of_transitions() -> None:
    chart = PAGE.partition("stateDiagram-v2")[2].partition("```")[0]
    drawn = {
        (begin, event, end)
        for begin, end, events in re.findall(r"(\w+) --> (\w+): (.+)", chart)
        for event in events.split(", ")
    }
    table = {
        (str(begin), event.__name__, str(end))
        for begin, steps in TRANSITIONS.items()
        for event, end in steps.items()
        if begin.value != "new"
    }
    assert drawn == table


def test_the_events_in_the_charts_exist() -> None:
    names = {kind.__name__ for kind in Event.__args__}
    for event in ("Accepted", "RequestStored", "TakenByWorker", "CancelRequested", "Completed"):
        assert event in PAGE
        assert event in names
