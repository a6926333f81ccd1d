"""The engine: every run ends in the journal, whatever happens to it."""

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from msgspec import structs
from tests.kit.waits import PATIENCE, until

from headway.engine import Engine, EngineOptions, Request, RunContext, ToolOptions
from headway.engine.remote.mirror import mirror_request
from headway.engine.run.cancellation import SERVER_STOPPED, _hook_tasks
from headway.errors import JournalUnavailable, ProtocolError
from headway.events import (
    Accepted,
    Cancelled,
    Completed,
    Entry,
    Failed,
    Interrupted,
    Log,
    Part,
    Progress,
    Started,
    decode_json,
    encode_json,
)
from headway.journal import Cursor, open_journal
from headway.run_state import State, fold
from headway.settings import Settings
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def engine(*, clock=None, options=None, **settings):
    clock = clock or FakeClock()
    async with open_journal("memory:", clock=clock) as journal:
        given = None if options is None else EngineOptions(options)
        made = Engine(journal, Settings(**settings), clock=clock, options=given)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


def request(execute, *, method="tools/call", target: str | None = "tool", token=None) -> Request:
    transport = TransportContext(kind="test", can_send_request=True)
    context = RunContext(1, transport, ServerMessageMetadata(), token, {})
    return Request(method, target, "owner", context, execute)


async def entries(made: Engine, run) -> list[Entry]:
    async with asyncio.timeout(PATIENCE):
        return [entry async for entry in made.journal.follow(run.stream)]


async def forever(context):
    await anyio.sleep_forever()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_run_that_returns_is_completed():
    async def execute(context):
        return {"content": []}

    async with engine() as made:
        run = made.start_run(request(execute))
        told = await entries(made, run)
        assert [type(entry.event) for entry in told] == [Accepted, Started, Completed]
        assert [entry.seq for entry in told] == [1, 2, 3]
        assert fold(told).state is State.COMPLETED
        assert made.runs == {}


async def test_a_run_that_raises_is_failed_and_says_no_more_than_it_may(caplog):
    async def execute(context):
        raise RuntimeError("the password is hunter2")

    async with engine() as made:
        run = made.start_run(request(execute))
        end = (await entries(made, run))[-1].event
        assert isinstance(end, Failed)
        assert end.code == -32603
        assert "hunter2" not in end.message
        assert end.message.endswith(f"(reference {run.reference})")
        assert run.reference in caplog.text


async def test_a_protocol_error_of_a_handler_keeps_its_code_and_data():
    async def execute(context):
        raise MCPError(-32002, "no such thing", {"uri": "x"})

    async with engine() as made:
        end = (await entries(made, made.start_run(request(execute))))[-1].event
        assert isinstance(end, Failed)
        assert (end.code, end.message) == (-32002, "no such thing")
        assert end.data is not None
        assert decode_json(end.data) == {"uri": "x"}


async def test_a_cancelled_run_says_who_stopped_it():
    async with engine() as made:
        run = made.start_run(request(forever))
        await turns()
        run.cancel("client", "no longer needed")
        assert (await entries(made, run))[-1].event == Cancelled("client", "no longer needed")


async def test_a_run_cancelled_before_it_began_never_executes():
    executed = []

    async def execute(context):
        executed.append(1)
        await asyncio.sleep(0)
        executed.append(2)
        return {}

    async with engine() as made:
        run = made.start_run(request(execute))
        run.cancel("client")
        assert isinstance((await entries(made, run))[-1].event, Cancelled)
        assert executed != [1, 2]


async def test_a_handler_that_swallows_its_cancellation_still_has_its_result():
    async def execute(context):
        with suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return {"content": ["saved"]}

    async with engine() as made:
        run = made.start_run(request(execute))
        await turns()
        run.cancel("client")
        end = (await entries(made, run))[-1].event
        assert isinstance(end, Completed)


async def test_a_run_over_its_time_is_stopped_with_its_limit_in_the_message():
    clock = FakeClock()
    limits = {"slow": ToolOptions(timeout=5.0)}
    async with engine(clock=clock, options=lambda name: limits.get(name, ToolOptions())) as made:
        run = made.start_run(request(forever, target="slow"))
        patient = made.start_run(request(forever, target="other"))
        await turns()
        await clock.advance(5.1)
        end = (await entries(made, run))[-1].event
        assert end == Failed(-32001, "slow did not finish within its limit of 5 s and was stopped")
        assert not patient.ended


async def test_stopping_the_engine_ends_every_run_as_interrupted():
    async with engine(max_runs=1) as made:
        working = made.start_run(request(forever))
        queued = made.start_run(request(forever))
        listening = made.start_run(request(forever, method="subscriptions/listen", target=None))
        await turns()
        await made.stop()
        for run in (working, queued, listening):
            assert isinstance((await entries(made, run))[-1].event, Interrupted)


async def test_runs_over_the_limit_wait_in_order_and_report_their_place():
    clock = FakeClock()
    release = asyncio.Event()

    async def execute(context):
        await release.wait()
        return {}

    async with engine(clock=clock, max_runs=1) as made:
        first, second, third = (made.start_run(request(execute, token=1)) for _ in range(3))
        await turns()
        assert [run.events.state for run in (first, second, third)] == [
            State.WORKING, State.QUEUED, State.QUEUED,
        ]  # fmt: skip
        release.set()
        told = await entries(made, third)
        progress = [entry.event for entry in told if isinstance(entry.event, Progress)]
        assert progress[0].message == "Queued, 1 ahead"
        assert isinstance(told[-1].event, Completed)
        assert fold(await entries(made, second)).state is State.COMPLETED


async def test_a_cancel_reaches_a_run_that_waits_for_its_place():
    async with engine(max_runs=1) as made:
        made.start_run(request(forever))
        waiting = made.start_run(request(forever))
        await turns()
        waiting.cancel("client")
        assert (await entries(made, waiting))[-1].event == Cancelled("client")
        third = made.start_run(request(forever))
        assert third.events.state is State.QUEUED


async def test_a_full_queue_is_a_refusal_that_says_so():
    async with engine(max_runs=1, max_queue=1) as made:
        for _ in range(2):
            made.start_run(request(forever))
            await turns()
        with pytest.raises(ProtocolError, match="busy") as refused:
            made.start_run(request(forever))
        assert refused.value.status == 503
        assert refused.value.retry_after


async def test_a_tool_s_own_limit_does_not_hold_up_other_tools():
    limits = {"narrow": ToolOptions(concurrency=1)}
    async with engine(options=lambda name: limits.get(name, ToolOptions())) as made:
        runs = [made.start_run(request(forever, target="narrow")) for _ in range(3)]
        other = made.start_run(request(forever, target="wide"))
        await turns()
        assert [run.events.state for run in runs] == [State.WORKING, State.QUEUED, State.QUEUED]
        assert other.events.state is State.WORKING


async def test_what_is_no_tool_call_is_not_queued():
    async def execute(context):
        return {}

    async with engine(max_runs=1) as made:
        made.start_run(request(forever))
        await turns()
        ping = made.start_run(request(execute, method="ping", target=None))
        assert fold(await entries(made, ping)).state is State.COMPLETED


async def test_reports_of_threads_reach_the_journal_in_order_and_before_the_end():
    async def execute(context):
        def work() -> None:
            for n in range(1000):
                context.run.output.report(n, 1000, None)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(anyio.to_thread.run_sync, work)
        return {}

    async with engine(progress_rate=0) as made:
        told = await entries(made, made.start_run(request(execute)))
        values = [entry.event.progress for entry in told if isinstance(entry.event, Progress)]
        assert values == sorted(set(values))
        assert values[-1] == 1000
        assert isinstance(told[-1].event, Completed)


async def test_a_report_after_the_end_is_dropped():
    kept = []

    async def execute(context):
        kept.append(context.run)
        return {}

    async with engine() as made:
        run = made.start_run(request(execute))
        told = await entries(made, run)
        kept[0].output.report(1, 2, "late")
        kept[0].output.emit_event(Part(encode_json("late")))
        await asyncio.to_thread(kept[0].output.emit_event, Log("info", encode_json("late")))
        await turns()
        assert await entries(made, run) == told


async def test_a_run_that_repeats_another_one_is_stopped_also_where_the_journal_is_gone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """What the other one says last is heard if it can be, and no error if it cannot."""
    async with engine() as made:
        other = made.start_run(request(forever))
        await turns()
        repeats = request(mirror_request(other.stream))
        run = made.start_run(structs.replace(repeats, follows=other.stream))
        await turns()

        async def gone(_: Cursor) -> NoReturn:
            raise JournalUnavailable("the journal is closed")

        with monkeypatch.context() as closed:
            closed.setattr(Cursor, "next", gone)
            run.stop(SERVER_STOPPED)
            await turns()
        told = await entries(made, run)
    assert told[-1].event == SERVER_STOPPED
    assert "raised" not in caplog.text


async def test_a_hook_that_a_thread_adds_in_the_moment_of_the_stop_is_called_once():
    async def forever(_context: RunContext) -> NoReturn:
        await anyio.sleep_forever()
        raise AssertionError

    calls: list[str] = []
    async with engine() as made:
        run = made.start_run(request(forever))
        run.stop_event = Cancelled("client", None)  # the first line of `Run.stop`
        run.cancellation.add_hook(lambda: calls.append("called"))  # a thread, in between
        run.cancellation.tell_hooks()  # its last line
        await until(lambda: calls and not _hook_tasks)
    assert calls == ["called"]


async def test_a_call_that_was_accepted_in_the_moment_of_a_drain_is_finished():
    async def execute(context):
        await asyncio.sleep(0)
        return {"content": []}

    async with engine() as made:
        run = made.start_run(request(execute))
        async with asyncio.timeout(PATIENCE):
            await made.drain.finish_calls()
        assert isinstance((await entries(made, run))[-1].event, Completed)
        assert made.runs == {}


async def test_a_call_that_was_accepted_in_the_moment_of_a_lost_lease_never_executes():
    executed = []

    async def execute(context):
        executed.append(1)
        return {}

    async with engine() as made:
        run = made.start_run(request(execute))
        made.lose_lease()
        await turns()
        assert isinstance((await entries(made, run))[-1].event, Interrupted)
        assert executed == []


async def test_a_run_begun_by_its_reader_begins_once():
    executed = []

    async def execute(context):
        executed.append(1)
        await asyncio.sleep(0)
        return {}

    async with engine() as made:
        run = made.start_run(request(execute))
        run.execution.begin_now()
        assert executed == [1]
        run.execution.begin_now()
        await entries(made, run)
        await turns()
        assert executed == [1]


async def test_the_time_of_a_run_counts_from_its_first_step():
    async def execute(context):
        clock._now += 3  # its first step takes three seconds
        await anyio.sleep_forever()

    clock = FakeClock()
    async with engine(clock=clock, timeout=5) as made:
        run = made.start_run(request(execute))
        run.execution.begin_now()
        await clock.advance(1.9)
        assert not run.ended
        await clock.advance(0.2)
        end = (await entries(made, run))[-1].event
        assert isinstance(end, Failed)
        assert "5" in end.message


async def test_a_thread_that_reports_first_after_the_end_is_dropped():
    async def execute(context):
        return {"content": []}

    async with engine() as made:
        run = made.start_run(request(execute, token=None))
        run.execution.begin_now()
        assert run.ended
        await asyncio.to_thread(run.output.report, 1, 2, "late")
        await turns()
        assert run.ended
        assert isinstance((await entries(made, run))[-1].event, Completed)
