"""The table "module → test files" in `tests/README.md`: made from what the tests reach, or checked.

    make test-map                  run all tests and write the table anew
    make test-map ARGS=--reuse     write it from the data of the last `make coverage`
    python scripts/test_map.py --check

A row names up to three test files: first the one that reaches most of a module's lines, then those
that add most to it. Only lines inside of functions count, for importing reaches all others. Among
files that reach about as much, the one that reaches least of everything else is named: it is the
one that is about the module. A module without functions has the files that import it by name.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from coverage import CoverageData

SOURCE = Path("src/headway")
TESTS = Path("tests")
PAGE = TESTS / "README.md"
DATA = Path("out/coverage/data")
BEGIN, END = "<!-- test map: made by `make test-map` -->", "<!-- end of the test map -->"
OTHER = "Other test files, for what is no single module's matter:"

MOST = 3
ABOUT_AS_MUCH = 0.9
"""Of the best file's lines: who reaches as many is as good."""

Reached = dict[str, set[int]]
"""The lines of one module that each test file reaches."""


def modules() -> list[str]:
    """Return the modules, as paths below `src/headway`."""
    return sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def test_files() -> list[str]:
    """Return the test files, as paths below `tests`."""
    return sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


# Making the table


def lines_of_functions(path: Path) -> set[int]:
    """Return the lines that importing a module does not reach."""
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {
        line
        for node in functions
        for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)
    }


def reached(data: CoverageData, module: str) -> Reached:
    """Return who reaches which lines of a module's functions."""
    path = (SOURCE / module).resolve()
    wanted = lines_of_functions(path)
    found: defaultdict[str, set[int]] = defaultdict(set)
    for line, contexts in data.contexts_by_lineno(str(path)).items():
        for context in contexts if line in wanted else ():
            # The context of a forked process may have that of its parent before it.
            file = context.rpartition("|")[2].removeprefix("tests/")
            if (TESTS / file).is_file():
                found[file].add(line)
    return found


def chosen(found: Reached, everything: Counter[str]) -> list[str]:
    """Return the files that together reach most, the most telling first."""
    left = set[int]().union(*found.values())
    files: list[str] = []
    while left and len(files) < MOST:
        gains = {file: len(lines & left) for file, lines in found.items()}
        enough = max(gains.values()) * ABOUT_AS_MUCH
        good = [file for file, gain in gains.items() if gain >= enough]
        best = min(good, key=lambda file: (everything[file], file))
        files.append(best)
        left -= found[best]
    return files


def importing(module: str) -> list[str]:
    """Return the test files that import a module by its name."""
    name = ".".join(("headway", *Path(module).with_suffix("").parts)).removesuffix(".__init__")
    said = re.compile(rf"^(from|import) {re.escape(name)}\b(?!\.)", re.MULTILINE)
    return [file for file in test_files() if said.search((TESTS / file).read_text())][:MOST]


def table(rows: dict[str, list[str]]) -> str:
    """Return the rows as Markdown, and the test files that none of them names."""
    named = {file for files in rows.values() for file in files}
    other = [file for file in test_files() if file not in named]
    lines = [
        f"| `{module}` | {', '.join(f'`{file}`' for file in files) or '—'} |"
        for module, files in rows.items()
    ]
    head = ["| Module of `src/headway` | Test files |", "|---|---|"]
    more = [f"- `{file}`" for file in other]
    return "\n".join([*head, *lines, "", OTHER, "", *more])


def make() -> None:
    """Write the table from the data of the last run."""
    data = CoverageData(str(DATA))
    data.read()
    found = {module: reached(data, module) for module in modules()}
    everything = Counter[str]()
    for of_module in found.values():
        everything.update({file: len(lines) for file, lines in of_module.items()})
    if not everything:
        sys.exit(f"{DATA} does not say which test reached what: run `make test-map`")
    rows = {
        module: chosen(of_module, everything) or importing(module)
        for module, of_module in found.items()
    }
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.partition(END)[2]}")


# Checking it


def faults() -> Iterator[str]:
    """Yield what the table says that is not so, and what it does not say."""
    text = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = dict(re.findall(r"^\| `([^`]+\.py)` \| (.*) \|$", text, re.MULTILINE))
    yield from _differences("module", rows, modules())
    named = {file for files in rows.values() for file in re.findall(r"`([^`]+)`", files)}
    listed = re.findall(r"^- `([^`]+)`$", text, re.MULTILINE)
    yield from _differences("test file", [*named, *listed], test_files())


def _differences(kind: str, said: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    for name in sorted({*said} - {*there}):
        yield f"{PAGE} names a {kind} that is not there: {name}"
    for name in sorted({*there} - {*said}):
        yield f"{PAGE} does not name the {kind} {name}"


def main() -> int:
    """Make the table, or say what is wrong with it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="only say whether it is right")
    parser.add_argument("--reuse", action="store_true", help="run no tests, read the last data")
    options = parser.parse_args()
    if not options.check:
        if not options.reuse:
            # Whether all of them pass and reach enough is no matter here.
            subprocess.run([sys.executable, "scripts/coverage_gate.py"], check=False)
        make()
    found = list(faults())
    for fault in found:
        print(fault)
    if found:
        print("`make test-map` makes the table anew")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
