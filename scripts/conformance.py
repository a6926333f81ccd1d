"""The official conformance suite against `tests/conformance/server.py`, at every revision.

    make conformance
    make conformance ARGS="--revision 2025-11-25 --scenario tools-list"

A line for each scenario; exits non-zero unless every check of every scenario passed. The suite and
the node it runs on are installed from npm into `.tools/conformance`, at the versions of
`tests/conformance/package-lock.json`. What it left behind is in `out/conformance`.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import node_packages
from headway_server import served

CHECKOUT = Path(__file__).resolve().parent.parent
FIXTURE = CHECKOUT / "tests" / "conformance"
OUT = CHECKOUT / "out" / "conformance"

REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
EXTENSIONS = {"tasks": "tasks-"}
"""The extensions that Headway implements, and how the names of their scenarios begin."""

DETAILS = 2000
"""Characters shown of what the suite knows about a failed check."""

SCENARIO = re.compile(r"^  - ([\w-]+) \[(.*)\]$", re.MULTILINE)
RESULT = re.compile(r"^server-([\w-]+?)-\d{4}-\d\d-\d\dT")


# The suite


class Suite(NamedTuple):
    """The installed suite."""

    node: Path
    script: Path

    def run(self, *arguments: str) -> str:
        """What it prints; its exit status says less than the results it writes."""
        return subprocess.run(
            [self.node, self.script, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        ).stdout  # fmt: skip

    def scenarios(self, group: str) -> list[str]:
        """The names of a revision's scenarios, or of an extension's: a revision never has those."""
        if group in REVISIONS:
            return [name for name, _ in self._listed("--spec-version", group)]
        prefix = EXTENSIONS[group]
        return [name for name in self.extensions() if name.startswith(prefix)]

    def extensions(self) -> list[str]:
        """The names of all extension scenarios."""
        return [name for name, kind in self._listed() if kind == "extension"]

    def _listed(self, *arguments: str) -> list[tuple[str, str]]:
        text = self.run("list", "--server", *arguments)
        return SCENARIO.findall(text) or sys.exit(f"the suite lists no scenario:\n{text}")


def install() -> Suite:
    """The suite at the locked versions."""
    modules = node_packages.install(FIXTURE)
    script = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    return Suite(modules / ".bin" / "node", script)


# Results


class Outcome(NamedTuple):
    """What came out of one scenario."""

    group: str
    scenario: str
    checks: Sequence[dict[str, Any]]

    @property
    def passed(self) -> list[dict[str, Any]]:
        """The checks that passed."""
        return [check for check in self.checks if check["status"] == "SUCCESS"]

    @property
    def missed(self) -> list[dict[str, Any]]:
        """The checks that did not pass. A warning, which stands for a SHOULD, is one of them."""
        return [check for check in self.checks if check["status"] not in ("SUCCESS", "INFO")]

    @property
    def verdict(self) -> str:
        """A skipped check has not passed; but where there are no others the suite asked nothing."""
        if {check["status"] for check in self.checks} == {"SKIPPED"}:
            return "skip"
        return "pass" if self.passed and not self.missed else "FAIL"


def outcomes(suite: Suite, url: str, group: str, names: list[str] | None) -> Iterator[Outcome]:
    """Run these scenarios of a group; None: all of it, which one run of the suite does faster."""
    place = OUT / group
    arguments = ["server", "--url", url, "-o", str(place)]
    if group in REVISIONS:
        arguments += ["--spec-version", group]
        if names is None:
            said = suite.run(*arguments, "--suite", "all")
            for name in suite.scenarios(group):
                yield Outcome(group, name, checks_of(place, name, said))
            return
    for name in suite.scenarios(group) if names is None else names:
        said = suite.run(*arguments, "--scenario", name)
        yield Outcome(group, name, checks_of(place, name, said))


def checks_of(place: Path, name: str, said: str) -> list[dict[str, Any]]:
    """The checks that the suite wrote down for a scenario; a failed one if there are none."""
    for folder in place.iterdir() if place.exists() else ():
        match = RESULT.match(folder.name)
        if match and match[1] == name:
            return json.loads((folder / "checks.json").read_text())
    text = f"the suite left no result; the end of what it said:\n{said[-2000:]}"
    return [{"id": "no-result", "status": "FAILURE", "errorMessage": text}]


def show(outcome: Outcome) -> None:
    """A line for the scenario, and what is known of each check that did not pass."""
    counts = f"{len(outcome.passed):3} passed"
    if outcome.verdict == "FAIL":
        counts += f", {len(outcome.missed)} did not"
    print(f"{outcome.verdict}  {outcome.group:10}  {outcome.scenario:46} {counts}", flush=True)
    for check in outcome.missed:
        reason = check.get("errorMessage") or check.get("description", "")
        print(f"      {check['status'].lower()} {check['id']}: {reason}")
        if check["status"] != "SKIPPED" and check.get("details"):
            print(f"      {json.dumps(check['details'], ensure_ascii=False)[:DETAILS]}")


def show_total(found: list[Outcome]) -> None:
    """The figures of each group and of all of them."""
    groups = {outcome.group: [o for o in found if o.group == outcome.group] for outcome in found}
    print()
    for title, group in [*groups.items(), ("total", found)]:
        counted = [outcome for outcome in group if outcome.verdict != "skip"]
        passed = sum(outcome.verdict == "pass" for outcome in counted)
        good = sum(len(outcome.passed) for outcome in counted)
        bad = sum(len(outcome.missed) for outcome in counted)
        skipped = len(group) - len(counted)
        print(
            f"{title:10}  {passed} of {len(counted)} scenarios, {good} checks passed, {bad} did not"
            + (f"; {skipped} skipped by the suite" if skipped else "")
        )


# The command line


def arguments() -> argparse.Namespace:
    """What was asked for, the groups as `groups`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for option, choices in (("--revision", REVISIONS), ("--extension", EXTENSIONS)):
        parser.add_argument(
            option, dest="groups", action="append", choices=choices, help="only this; repeatable"
        )
    parser.add_argument(
        "--scenario", dest="scenarios", action="append", metavar="NAME", help="likewise"
    )
    return parser.parse_args(namespace=argparse.Namespace(groups=[], scenarios=[]))


def chosen(suite: Suite, groups: list[str], scenarios: list[str]) -> dict[str, list[str] | None]:
    """The scenarios to run of each group; None stands for all."""
    if not scenarios:
        return dict.fromkeys(groups)
    there = {group: suite.scenarios(group) for group in groups}
    unknown = set(scenarios).difference(*there.values())
    if unknown:
        sys.exit(f"no such scenario in {', '.join(groups)}: {', '.join(sorted(unknown))}")
    return {group: [n for n in names if n in scenarios] for group, names in there.items()}


def main() -> int:
    """Run what was asked for, or everything."""
    given = arguments()
    suite = install()
    begin = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    groups = chosen(suite, given.groups or [*REVISIONS, *EXTENSIONS], given.scenarios)
    found: list[Outcome] = []
    with served(OUT / "server.log", "run", f"{FIXTURE / 'server.py'}:server") as url:
        for group, names in groups.items():
            for outcome in outcomes(suite, url, group, names):
                show(outcome)
                found.append(outcome)
    show_total(found)
    if not given.groups and not given.scenarios:
        others = [n for n in suite.extensions() if not n.startswith(tuple(EXTENSIONS.values()))]
        print(
            f"not run, of extensions that Headway does not implement: {', '.join(others) or 'none'}"
        )
    print(f"{time.monotonic() - begin:.0f} s")
    return int(any(outcome.verdict == "FAIL" for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
