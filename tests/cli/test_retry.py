"""`headway retry`: what a run was asked, executed once more on a server that runs."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.nap import call_tool
from tests.kit.program import Programs, programs_in

TARGET = f"{Path(__file__).with_name('flaky.py')}:mcp"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


class Site:
    """A server, its journal and its operator."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self.programs = programs
        self.journal = ("--journal", f"sqlite:///{directory / 'j.db'}")
        self.place = str(directory / "shop")
        self.server, self.url = self.serve("--grace", "1s")

    def serve(self, *options: str) -> tuple[Any, str]:
        return self.programs.serve("run", TARGET, "--port", "0", *self.journal, *options)

    def newest(self, tool: str) -> dict[str, Any]:
        listed = self.programs.run(
            "runs", "--all", "--tool", tool, "--output", "json", *self.journal
        )
        return json.loads(listed.out)[0]

    def retry(self, run: str) -> Any:
        return self.programs.run("retry", run, *self.journal)


@pytest.fixture
def site(programs: Programs, tmp_path: Path) -> Site:
    return Site(programs, tmp_path)


def begun(finished: Any) -> str:
    assert finished.code == 0, finished.err
    reference, _, rest = finished.out.partition(":")
    assert rest == f" begun; headway watch {reference}\n"
    return reference


def test_a_failed_run_is_executed_again_with_its_arguments_for_its_caller(site: Site) -> None:
    assert "the shop is closed" in call_tool(site.url, "fetch", place=site.place)
    failed = site.newest("fetch")
    Path(site.place).touch()
    again = begun(site.retry(failed["reference"]))
    result = site.programs.run("result", again, *site.journal)
    assert (result.code, result.out) == (0, f"fetched {site.place}\n")
    row = site.newest("fetch")
    assert (row["reference"], row["state"], row["attempt"]) == (again, "completed", 1)
    same = ("tool", "caller", "client", "arguments")
    assert [row[name] for name in same] == [failed[name] for name in same]
    assert row["arguments"] == ["place"]
    # The old one stays as it was, and may be executed again as often as somebody wants.
    assert begun(site.retry(failed["reference"])) not in (again, failed["reference"])


def test_a_server_that_came_later_executes_what_an_earlier_one_failed_at(site: Site) -> None:
    call_tool(site.url, "fetch", place=site.place)
    failed = site.newest("fetch")
    site.server.interrupt(signal.SIGTERM)
    site.server.finish()
    nobody = site.retry(failed["run"])
    assert (nobody.code, nobody.err) == (4, "headway: no server with this journal is running\n")
    Path(site.place).touch()
    site.serve()
    again = begun(site.retry(failed["run"]))
    assert site.programs.run("result", again, *site.journal).out == f"fetched {site.place}\n"


def test_a_run_that_is_executed_again_outlives_its_server(site: Site) -> None:
    Path(site.place).touch()
    call_tool(site.url, "hang", place=site.place)
    Path(site.place).unlink()
    again = begun(site.retry(site.newest("hang")["run"]))
    site.server.interrupt(signal.SIGTERM)
    site.server.finish()
    Path(site.place).touch()
    site.serve()
    assert site.programs.run("watch", again, *site.journal).code == 0
    assert site.programs.run("result", again, *site.journal).out == "hung\n"


@pytest.mark.parametrize(
    ("tool", "said"), [("forgotten", "are not in the journal"), ("fetch", "has not ended")]
)
def test_what_cannot_be_executed_again_is_refused_with_the_reason(
    site: Site, tool: str, said: str
) -> None:
    if tool == "forgotten":
        call_tool(site.url, "forgotten")
        run = site.newest("forgotten")["run"]
    else:
        Path(site.place).touch()
        call_tool(site.url, "hang", place=site.place)
        Path(site.place).unlink()
        run = begun(site.retry(site.newest("hang")["run"]))
    refused = site.retry(run)
    assert (refused.code, said in refused.err) == (2, True), refused.err
    assert os.linesep not in refused.err.strip()
