"""The log's line about a call: it is short whatever a client sends, and ends no call by failing."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.peers import Session, connect, each_era, served
from tests.kit.waits import until, within

from headway import Headway
from headway.cli.journal_access.read_runs import RunFilter, newest_runs
from headway.cli.journal_access.user_journals import opened_journal
from headway.protocol.run_for_people import LONGEST_NAME
from headway.run_state import State

pytestmark = pytest.mark.anyio


class FailingHandler(logging.Handler):
    """A handler of an operator's that does not keep its errors to itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        raise OSError("the collector is gone")


def failing_filter(record: logging.LogRecord) -> bool:
    """Fail, as a filter that takes every argument for a text."""
    raise TypeError(record.msg)


@pytest.fixture(params=["handler", "filter"])
def broken_log(request: pytest.FixtureRequest) -> Iterator[None]:
    handler: logging.Handler = FailingHandler()
    if request.param == "filter":
        handler = logging.NullHandler()
        handler.handle = handler.filter
        handler.addFilter(failing_filter)
    logger = logging.getLogger("headway")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)


def make() -> Headway:
    mcp = Headway("calls")

    @mcp.tool()
    async def work() -> str:
        return "done"

    @mcp.tool()
    async def fail() -> str:
        raise ZeroDivisionError("by design")

    @mcp.tool()
    async def leave() -> str:
        raise SystemExit(3)

    return mcp


@each_era
@pytest.mark.usefixtures("broken_log")
async def test_a_call_ends_whatever_becomes_of_its_lines(
    tmp_path: Path, era: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}"
    async with served(make(), journal=url) as wire:
        client = await connect(wire, era)
        ends: dict[str, dict[str, Any]] = {
            tool: await within(outcome_of(client, tool)) for tool in ("work", "fail", "leave")
        }
        await until(lambda: not wire.app.engine.runs)
        assert ends["work"]["content"] == [{"type": "text", "text": "done"}]
        assert (ends["fail"]["isError"], ends["leave"]["isError"]) == (True, True)
    async with opened_journal(url) as journal:
        runs = await newest_runs(journal, RunFilter(every=True))
    states = [run.state for run in runs if run.tool]
    assert states == [State.FAILED, State.FAILED, State.COMPLETED]
    assert "headway: a line of the log is lost: " in capsys.readouterr().err


async def outcome_of(client: Any, tool: str) -> dict[str, Any]:
    """What comes of a call."""
    return (await (await client.call(tool)).outcome())["result"]


async def test_a_name_as_long_as_a_request_is_cut_in_the_log_and_in_lists(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}"
    caplog.set_level(logging.INFO, "headway.calls")
    async with served(make(), journal=url) as wire:
        session = await Session.open(wire)
        await (await session.call("x" * 300_000)).outcome()
    (record,) = [each for each in caplog.records if each.name == "headway.calls"]
    assert "x" * (LONGEST_NAME - 1) + "…" in record.getMessage()
    assert len(record.getMessage()) < 2000
    assert record.filename == "end_line.py"  # and not the module that keeps errors from it
    assert len(str(vars(record)["headway_call"])) < 2000
    async with opened_journal(url) as journal:
        (run,) = await newest_runs(journal, RunFilter(every=True))
    assert run.tool is not None
    assert len(run.tool) == LONGEST_NAME
