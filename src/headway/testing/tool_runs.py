"""Tools in a test: called through the real engine without a server, or recorded on their own."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import ClientCapabilities, Implementation, InitializeRequestParams
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from headway.api.raised_errors import collect_raised
from headway.clock import Clock
from headway.engine import (
    Engine,
    EngineOptions,
    Request,
    Run,
    RunContext,
    ToolOptions,
    executing_run,
    lifespan_of,
    notify_run,
)
from headway.engine.run.recorder import RecordedOutput, Recorder
from headway.events import Entry, InputRequested, Restarted, decode_json, encode_json
from headway.journal import open_journal
from headway.protocol.methods import TOOL_CALL
from headway.run_state import parts_of
from headway.server import Served, inspect_server, serve_object
from headway.settings import Retention, Settings
from headway.testing.outcome import Outcome, Said, ToolRunFailed, outcome

Answers = Mapping[str, object] | Callable[[str, dict[str, Any]], object]
"""The client's answers to questions of a tool: results by method, or a function of method and
params, which may raise an `MCPError` to answer with an error."""

TOKEN = "test"
"""The client's progress token."""

EVERYTHING = Retention(max_bytes=2**40, stream_entries=2**40, stream_bytes=2**40)
"""Limits so large that a test loses no output of a tool."""

TIMEOUT = 30.0
"""Seconds of real time after which a tool that does not end is a failed test."""


async def run_tool(
    server: object,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    raise_on_error: bool = True,
    answers: Answers | None = None,
    after: Outcome | None = None,
    settings: Settings | None = None,
    clock: Clock | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - of a test, which needs no scope of its own
) -> Outcome:
    """Call a tool of any server Headway serves, without a socket, and return what it did.

    A call that fails raises, so that no test goes on as if it had worked. With
    `raise_on_error=False` it returns what came of it: `outcome.error` says why it failed.

    It goes through the real engine: limits, threads, cancellation, and pacing where `settings`
    are given; otherwise every report is a message, whatever the tool's own `rate`. The client is
    of 2025-11-25; what it would be asked is answered by `answers`.

    `after` is what came of an attempt that did not get to its end (the tool raised there, say):
    this is the next one, as after a crash. The tool needs `restart=True`.

    Cancellation: stops the tool.

    Raises:
        ToolRunFailed: The call failed, in whatever way. It has the `outcome`; its `__cause__` is
            what the tool of a `Headway` raised.
        SetupError: `server` cannot be served.
        TimeoutError: The tool was not done after `timeout` seconds of real time.
        AssertionError: The tool asked what `answers` does not answer.
        ValueError: `after` comes from a tool that may not be begun anew.
    """
    served = inspect_server(server)
    low = serve_object(served)
    journal = open_journal("memory:", clock=clock, retention=EVERYTHING)
    options = EngineOptions(served.options_of if settings is not None else _unpaced_options(served))
    engine = Engine(journal, settings or Settings(progress_rate=0), clock=clock, options=options)
    async with asyncio.timeout(timeout), journal, lifespan_of(low.lifespan(low)) as state:
        await engine.start()
        try:
            runner = ServerRunner(low, _make_connection(), state)
            request = _make_request(runner, name, arguments)
            with collect_raised() as raised:
                run = engine.start_run(request)
            if after is not None:
                _go_on(run, after)
            done = await _follow_run(run, answers)
        finally:
            await engine.stop()
    if done.is_error and raise_on_error:
        raise ToolRunFailed(name, done) from (raised[-1] if raised else None)
    return done


@contextmanager
def record() -> Generator[Said]:
    """Record what functions inside give out by `report`, `track`, `stage`, `log` and `part`.

    It is for functions that tools are made of. Every report is recorded, the last one when the
    context is left.
    """
    said = Said()
    output = RecordedOutput(said.add)
    with Recorder(output).as_current_run():
        yield said
    output.finish(success=False)


def _unpaced_options(served: Served) -> Callable[[str], ToolOptions]:
    return lambda tool: replace(served.options_of(tool), rate=0)


def _make_request(
    runner: ServerRunner[Any], name: str, arguments: Mapping[str, Any] | None
) -> Request:
    params = {
        "name": name,
        # As they come off the wire.
        "arguments": decode_json(encode_json(dict(arguments or {}))),
        "_meta": {"progressToken": TOKEN},
    }
    transport = TransportContext(kind="test", can_send_request=True)
    context = RunContext(1, transport, ServerMessageMetadata(), TOKEN, {})

    async def execute(context: RunContext) -> dict[str, Any]:
        return await runner.on_request(context, TOOL_CALL, params)

    return Request(TOOL_CALL, name, "test", context, execute)


def _go_on(run: Run, after: Outcome) -> None:
    """Make a run the next attempt of the call that `after` did not finish."""
    if run.checkpoints is None or after.memory is None:
        tool = run.request.target
        raise ValueError(f"{tool} may not be begun anew: register it with restart=True")
    memory = deepcopy(after.memory)
    memory.apply_entry(Restarted("test", memory.attempt + 1))
    memory.at = 0  # of another stream
    run.checkpoints.memory, run.checkpoints.parts = memory, after.kept


async def _follow_run(run: Run, answers: Answers | None) -> Outcome:
    entries: list[Entry] = []
    async for entry in run.journal.follow(run.stream):
        entries.append(entry)
        if isinstance(entry.event, InputRequested):
            _answer_question(run, entry.event, answers)
    if run.checkpoints is None:
        return outcome(entries)
    memory, earlier = run.checkpoints.memory, run.checkpoints.parts
    kept = [entry for entry in entries if entry.seq <= memory.at]
    return replace(outcome(entries), memory=memory, kept=[*earlier, *parts_of(kept)])


def _answer_question(run: Run, question: InputRequested, answers: Answers | None) -> None:
    params: dict[str, Any] = {} if question.params is None else decode_json(question.params)
    try:
        if callable(answers):
            run.answer_question(question.key, answers(question.method, params))
        elif answers is not None and question.method in answers:
            run.answer_question(question.key, answers[question.method])
        else:
            raise AssertionError(f"the tool asked {question.method}; say what in answers=")
    except MCPError as refusal:
        run.answer_question(question.key, None, refusal)


def _make_connection() -> Connection:
    connection = Connection.for_loop(_Client(), session_id="test")
    connection.client_params = InitializeRequestParams(
        protocol_version=LATEST_HANDSHAKE_VERSION,
        capabilities=ClientCapabilities.model_validate(
            {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
        ),
        client_info=Implementation(name="headway.testing", version="1"),
    )
    connection.protocol_version = LATEST_HANDSHAKE_VERSION
    connection.initialized.set()
    return connection


class _Client:
    """A client's side of one call; messages that name no request count as the call's own."""

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        run = executing_run()
        if run is not None:
            notify_run(run, TOKEN, method, params)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        run = executing_run()
        if run is None:
            raise NoBackChannelError(method)
        return await run.ask_client(method, params, (opts or {}).get("timeout"))
