"""The manifest and the tests agree; and disagreements are found."""

import json
import subprocess
import sys

import pytest
from tests.kit.waits import PATIENCE
from tests.requirements.matrix import ROOT, Proof, Requirement, faults, requirements

SAYS = Requirement("a.b", "MUST", ("2025/http", "2026/http"), "2025-11-25/x", "It says.")
ONE, OTHER = Proof("t::one", "a.b", "2025/http"), Proof("t::other", "a.b", "2026/http")


def test_every_sentence_has_its_tests_and_every_mark_its_sentence() -> None:
    # A process of its own: pytest does not collect inside of pytest.
    code = (
        "import json; from tests.requirements.matrix import *;"
        "print(json.dumps(faults(requirements(), proofs())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_manifest_lists_what_it_should() -> None:
    pages = {one.page.partition("#")[0] for one in requirements()}
    for word in (
        "transports",
        "progress",
        "cancellation",
        "logging",
        "tasks",
        "subscriptions",
        "authorization",
    ):
        assert any(word in page for page in pages), word


@pytest.mark.parametrize(
    ("wanted", "found", "says"),
    [
        ([SAYS], [ONE], "a.b (MUST) has no test at 2026/http: It says."),
        ([SAYS], [ONE, OTHER, ONE._replace(name="a.c")], "there is no requirement 'a.c'"),
        ([SAYS], [ONE, OTHER, ONE._replace(cell="/http")], "the mark needs an era"),
        ([SAYS._replace(level="MAY")], [ONE, OTHER], "its level is 'MAY'"),
        ([SAYS._replace(at=("2027/http",))], [ONE, OTHER], "it binds ('2027/http',)"),
        ([SAYS._replace(page="elsewhere")], [ONE, OTHER], "no page 'elsewhere' is listed"),
        ([SAYS._replace(deviates="because")], [ONE, OTHER], "proved although it deviates"),
    ],
)
def test_a_disagreement_is_named(wanted: list[Requirement], found: list[Proof], says: str) -> None:
    assert any(says in text for text in faults(wanted, found))
    assert not faults([SAYS], [ONE, OTHER])
