"""What the specification asks for, and the tests that prove it.

    python -m tests.requirements.matrix

A test says with `@pytest.mark.requirement(ids…)` what it proves. On which transport it does is
where it lies; in which era is its parameter `era`, or the mark's own `era="2025"` (for both:
`"2025 2026"`).
"""

import contextlib
import io
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MANIFEST = Path(__file__).with_name("manifest.toml")

TRANSPORTS = {"auth": "http", "wire": "http", "interop": "http", "cli": "http", "stdio": "stdio"}
"""The transport of the tests in a directory."""

CELLS = ("2025/http", "2026/http", "2025/stdio", "2026/stdio")
LEVELS = ("MUST", "SHOULD")
PAGES = ("2025-11-25/", "2026-07-28/", "seps/2663-")
"""How the pages begin that are listed."""


class Requirement(NamedTuple):
    """A sentence of the specification that binds a server."""

    name: str
    level: str
    at: tuple[str, ...]
    page: str
    says: str
    deviates: str = ""


class Proof(NamedTuple):
    """A test, what it proves, and in which era over which transport."""

    test: str
    name: str
    cell: str


def requirements() -> list[Requirement]:
    """The manifest."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(MANIFEST.read_text())
    found: list[Requirement] = []
    for name, table in tables.items():
        table["at"] = tuple(table["at"])
        found.append(Requirement(name, **table))
    return found


def proofs() -> list[Proof]:
    """What all tests say that they prove, as pytest collects them."""
    collector = _Collector()
    folders = [str(ROOT / "tests" / folder) for folder in TRANSPORTS]
    options = [
        "--collect-only",
        "-q",
        "-p",
        "no:xdist",
        f"--rootdir={ROOT}",
        f"-c{ROOT}/pyproject.toml",
    ]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if pytest.main([*options, *folders], plugins=[collector]):
            sys.exit(f"the tests cannot be collected:\n{said.getvalue()}")
    return collector.found


class _Collector:
    def __init__(self) -> None:
        self.found: list[Proof] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.found += _proofs_of(item)


def _proofs_of(item: pytest.Item) -> Iterator[Proof]:
    transport = TRANSPORTS[item.path.relative_to(ROOT / "tests").parts[0]]
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    for mark in item.iter_markers("requirement"):
        eras = mark.kwargs.get("era", parameters.get("era", ""))
        for name in mark.args:
            for era in eras.split() or [""]:
                yield Proof(item.nodeid, name, f"{era}/{transport}")


def faults(wanted: list[Requirement], found: list[Proof]) -> list[str]:
    """What is wrong with the manifest and the marks, a sentence each."""
    known = {one.name: one for one in wanted}
    proved = {(proof.name, proof.cell) for proof in found}
    texts = [
        f"{one.name}: {what}"
        for one in wanted
        for what, is_so in (
            (f"its level is {one.level!r}", one.level not in LEVELS),
            (f"it binds {one.at}, of {CELLS}", not one.at or not set(one.at) <= set(CELLS)),
            (f"no page {one.page!r} is listed", not one.page.startswith(PAGES)),
            (
                "it is proved although it deviates",
                one.deviates and one.name in {n for n, _ in proved},
            ),
        )
        if is_so
    ]
    texts += [
        f"{one.name} ({one.level}) has no test at {cell}: {one.says}"
        for one in wanted
        for cell in one.at
        if not one.deviates and (one.name, cell) not in proved
    ]
    texts += [f"{p.test}: there is no requirement {p.name!r}" for p in found if p.name not in known]
    texts += [f"{p.test}: the mark needs an era" for p in found if p.cell.startswith("/")]
    return sorted(set(texts))


def lines(wanted: list[Requirement], found: list[Proof]) -> Iterator[str]:
    """The matrix: how many tests prove what, where."""
    counts = {(one.name, cell): 0 for one in wanted for cell in one.at}
    for name, cell in {(proof.test, proof.name, proof.cell)[1:] for proof in found}:
        counts[name, cell] = sum(proof[1:] == (name, cell) for proof in found)
    yield f"{'':38}{''.join(f'{cell:>12}' for cell in CELLS)}"
    for one in wanted:
        cells = (
            "deviates" if one.deviates and cell in one.at
            else str(counts[one.name, cell]) if cell in one.at
            else "."
            for cell in CELLS
        )  # fmt: skip
        yield f"{one.level:7}{one.name:31}{''.join(f'{cell:>12}' for cell in cells)}"
    bound = sum(len(one.at) for one in wanted if not one.deviates)
    musts = sum(one.level == "MUST" for one in wanted)
    yield f"{len(wanted)} sentences ({musts} MUST) in {bound} places, all proved but for:"
    yield from (f"  {one.name}: {one.says} {one.deviates}" for one in wanted if one.deviates)


if __name__ == "__main__":
    print(*lines(requirements(), proofs()), sep="\n")
