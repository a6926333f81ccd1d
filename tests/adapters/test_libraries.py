"""Libraries' own records and bars, heard where the author asks for it."""

import asyncio
import logging
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.kit.waits import PATIENCE
from tqdm import tqdm
from tqdm.asyncio import tqdm as tqdm_asyncio
from tqdm.auto import trange

from headway import Headway, capture_logging, capture_tqdm, stage
from headway.testing import Outcome, record, run_tool

pytestmark = pytest.mark.anyio

METHODS = {name: vars(tqdm)[name] for name in ("__init__", "display", "update", "close")}

library = logging.getLogger("some.library")


async def call(tool: Any) -> Outcome:
    mcp = Headway("s")
    mcp.add_tool(tool, name="tool")
    return await run_tool(mcp, "tool")


def test_records_of_a_library_are_logs_inside_and_not_outside() -> None:
    with record() as said:
        library.warning("before")
        with capture_logging("some"):
            library.debug("too low")
            library.info("%d rows", 7)
            logging.getLogger("other").error("another one's")
            logging.getLogger("somewhere").error("not below")
        library.warning("after")
    assert said.logs == [("info", "7 rows", "some.library")]


def test_levels_are_the_protocol_s() -> None:
    with record() as said, capture_logging(level="DEBUG"):
        for level in (10, 20, 30, 40, 50, 5):
            library.log(level, "x")
    levels = [log.level for log in said.logs]
    assert levels == ["debug", "info", "warning", "error", "critical"]


def test_the_servers_own_loggers_are_captured_only_by_name() -> None:
    with record() as said:
        with capture_logging():
            logging.getLogger("headway.engine").error("own")
            logging.getLogger("mcp.server").error("own")
        with capture_logging("mcp"):
            logging.getLogger("mcp.server").error("named")
    assert [log.data for log in said.logs] == ["named"]


def test_a_record_that_cannot_be_formatted_breaks_nothing() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    library.addHandler(logging.NullHandler())
    with record() as said, capture_logging("some"):
        library.info("%d", "no number")
        library.info("%s", Broken())
        library.info("next")
    assert [log.data for log in said.logs] == ["%d", "%s", "next"]


def test_loggers_are_as_before_after_a_capture() -> None:
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.ERROR)
    with capture_logging("quiet"), capture_logging("quiet", level="DEBUG"):
        assert quiet.level == logging.DEBUG
    assert (quiet.level, quiet.handlers) == (logging.ERROR, [])
    with pytest.raises(ValueError, match="LOUD"), capture_logging(level="LOUD"):
        pass


async def test_runs_side_by_side_do_not_mix() -> None:
    both = asyncio.Barrier(2)

    async def listening() -> str:
        with capture_logging("some"):
            await both.wait()
            library.info("mine")
            await both.wait()
        return "ok"

    async def deaf() -> str:
        await both.wait()
        library.info("theirs")
        await both.wait()
        return "ok"

    first, second = await asyncio.gather(call(listening), call(deaf))
    assert [log.data for log in first.logs] == ["mine"]
    assert second.logs == []


def test_a_bar_reports_progress_as_a_track_does(capsys: pytest.CaptureFixture[str]) -> None:
    with record() as said, capture_tqdm():
        for _ in tqdm(range(3), desc="Training", mininterval=0):
            pass
    assert (said.progress[-1].progress, said.progress[-1].total) == (3, 3)
    assert any(message == "Training · 2 of 3" for _, _, message in said.progress)
    assert capsys.readouterr().err == ""


def test_bars_in_stages_and_in_other_bars_add_up() -> None:
    with record() as said, capture_tqdm():
        with stage("Fit", weight=4):
            for _ in tqdm(range(2), desc="Epoch", mininterval=0):
                for _ in trange(4, mininterval=0):
                    pass
        with stage("Score"):
            pass
    values = [p.progress for p in said.progress]
    assert values == sorted(set(values))
    assert said.progress[-1][:2] == (5, 5)
    assert any((p.message or "").startswith("Fit · ") for p in said.progress)


def test_a_bar_without_a_total_and_a_bar_left_early_report_their_counts() -> None:
    with record() as said, capture_tqdm():
        with tqdm(mininterval=0) as bar:
            bar.update(5)
        for item in tqdm(range(10), mininterval=0):
            if item == 5:
                break
    assert said.progress[-1].progress == 10


async def test_a_bar_over_tasks_ends_at_its_total() -> None:
    async def tool() -> str:
        async def job(number: int) -> int:
            return number

        with capture_tqdm():
            done = [await each for each in tqdm_asyncio.as_completed([job(1), job(2)])]
        return str(sorted(done))

    outcome = await call(tool)
    assert outcome.result == "[1, 2]"
    assert outcome.progress[-1].progress == outcome.progress[-1].total


def test_bars_of_other_threads_are_drawn_as_without_a_capture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn = threading.Event()

    def somebody_else() -> None:
        for _ in tqdm(range(2), desc="Other"):
            pass
        drawn.set()

    with record() as said, capture_tqdm():
        thread = threading.Thread(target=somebody_else)
        thread.start()
        thread.join(PATIENCE)
    assert drawn.is_set()
    assert said.progress == []
    assert "Other" in capsys.readouterr().err
    assert {name: vars(tqdm)[name] for name in METHODS} == METHODS


def test_without_a_run_bars_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with capture_tqdm():
        for _ in tqdm(range(2), desc="Plain"):
            pass
    assert "Plain" in capsys.readouterr().err


@contextmanager
def listening(name: str) -> Generator[list[str]]:
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear, logger = Ear(), logging.getLogger(name)
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


def test_other_handlers_get_the_same_records_as_without_a_capture() -> None:
    loud = logging.getLogger("some.library.loud")
    loud.setLevel(logging.INFO)
    with record() as said, listening("some") as heard, listening("some.library") as closer:
        with capture_logging("some", level="DEBUG"):
            library.debug("no")
            library.info("no")
            library.warning("yes")
            loud.info("its own level")
        library.info("no")
    assert heard == closer == ["yes", "its own level"]
    assert [log.data for log in said.logs] == ["no", "no", "yes", "its own level"]


def test_a_level_that_somebody_sets_meanwhile_stays() -> None:
    own = logging.getLogger("own.level")
    with capture_logging("own.level"):
        own.setLevel(logging.ERROR)
    assert own.level == logging.ERROR


def test_a_warning_is_shown_where_there_is_no_handler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lonely = logging.getLogger("lonely")
    monkeypatch.setattr(lonely, "propagate", False)
    with capture_logging(lonely):
        lonely.warning("shown")
        lonely.info("not shown")
    assert capsys.readouterr().err == "shown\n"


def test_a_traceback_stays_on_the_server() -> None:
    with record() as said, capture_logging(library, level=0):
        try:
            raise ValueError("hunter2")
        except ValueError:
            library.exception("it failed")
    assert said.logs == [("error", "it failed", "some.library")]


async def test_a_thread_is_captured_only_with_the_context_of_its_run() -> None:
    with record() as said, capture_logging("some"):
        await asyncio.to_thread(library.info, "copied")
        thread = threading.Thread(target=library.info, args=("not copied",))
        thread.start()
        thread.join(PATIENCE)
    assert [log.data for log in said.logs] == ["copied"]


async def test_a_task_that_outlives_the_capture_is_not_captured() -> None:
    go_on = asyncio.Event()

    async def later() -> None:
        await go_on.wait()
        library.info("late")

    with record() as said, capture_logging("other"):
        with capture_logging("some"):
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        with record() as other, capture_logging("some"):
            go_on.set()
            await task
    assert said.logs == other.logs == []


def test_a_bar_takes_positional_arguments() -> None:
    with record() as said, capture_tqdm():
        for _ in tqdm(range(3), "Placed", 6, True, None, None, 0):
            pass
    assert said.progress[-1][1:] == (6, "Placed · 3 of 6")


def test_a_bar_that_is_switched_off_says_nothing() -> None:
    with record() as said, capture_tqdm():
        for _ in tqdm(range(3), disable=True):
            pass
        assert said.progress == []
        for _ in tqdm(range(3), disable=None):
            pass
    assert said.progress[-1][:2] == (3, 3)


def test_a_message_has_the_description_the_units_and_the_postfix_of_its_bar() -> None:
    size: dict[str, Any] = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with record() as said, capture_tqdm(), tqdm(total=2048, mininterval=0, **size) as bar:
        bar.set_description("file.bin", refresh=False)
        bar.set_postfix(tries=1, refresh=False)
        bar.update(1024)
        bar.total = 4096
        bar.update(1024)
    assert [each[:2] for each in said.progress][-2:] == [(1024, 2048), (2048, 4096)]
    assert said.progress[-2].message == "file.bin · 1.00kB of 2.00kB · tries=1"


def test_several_bars_inside_one_item_share_it() -> None:
    with record() as said, capture_tqdm():
        for epoch in tqdm(range(3), desc="Epoch", mininterval=0):
            for _ in (0, 1):
                for _ in tqdm(range(50), leave=False, mininterval=0):
                    assert said.progress[-1].progress < epoch + 1.01
    values = [each.progress for each in said.progress]
    assert values == sorted(set(values))
    assert any(value % 1 > 0.1 for value in values)
    assert "Epoch · 7 of 50" in [each.message for each in said.progress]
    assert said.progress[-1].progress == pytest.approx(3)


def test_bars_that_are_never_closed_count_in_their_own_capture_only() -> None:
    kept = []
    with record() as said, capture_tqdm():
        for _ in range(3):
            bar = tqdm(total=2, mininterval=0)
            kept.append(bar)
            bar.update(2)
        assert said.progress[-1][:2] == (6, 6)
    with record() as said, capture_tqdm():
        for bar in kept:
            bar.update(1)
            bar.close()
        assert said.progress == []


def test_strange_numbers_of_a_bar_do_no_harm() -> None:
    with record() as said, capture_tqdm(), tqdm(total=float("inf"), mininterval=0) as bar:
        bar.update(-3)
        bar.update(2.5)
        bar.reset(total=1)
        bar.total = float("nan")
        bar.update(1)
    assert all(each.progress == each.progress for each in said.progress)


async def test_bars_in_threads_count_together() -> None:
    def work() -> None:
        for _ in tqdm(range(500), mininterval=0):
            pass

    with record() as said, capture_tqdm():
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))
    assert said.progress[-1][:2] == (2000, 2000)


async def test_captures_of_several_runs_do_not_mix() -> None:
    both = asyncio.Barrier(2)

    def tool_of(size: int, desc: str) -> Any:
        async def tool() -> str:
            with capture_tqdm():
                await both.wait()
                for _ in tqdm(range(size), desc=desc, mininterval=0):
                    await asyncio.sleep(0)
            return "ok"

        return tool

    first, second = await asyncio.gather(call(tool_of(3, "A")), call(tool_of(5, "B")))
    for outcome, size, desc in ((first, 3, "A"), (second, 5, "B")):
        assert outcome.progress[-1][:2] == (size, size)
        assert all((each.message or desc)[0] == desc for each in outcome.progress)
    assert {name: vars(tqdm)[name] for name in METHODS} == METHODS


async def test_a_cancelled_thread_stops_at_its_bar_and_leaves_tqdm_usable() -> None:
    mcp = Headway("s")
    began, over = threading.Event(), threading.Event()

    @mcp.tool(timeout="200ms")
    def endless() -> None:
        try:
            with capture_tqdm(), tqdm(total=10**9, mininterval=0) as bar:
                while True:
                    began.set()
                    bar.update(1)
        finally:
            over.set()

    outcome = await run_tool(mcp, "endless", raise_on_error=False)
    assert "limit" in (outcome.error or "")
    assert began.is_set()
    assert await asyncio.to_thread(over.wait, 10)
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(lambda: list(tqdm(range(2), desc="Next")))


def test_without_tqdm_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.std", None)
    with record(), capture_tqdm():
        pass
