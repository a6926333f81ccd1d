"""Tools in a test: called through the real engine, without a server, or heard on their own."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import ClientCapabilities, Implementation, InitializeRequestParams
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from headway.clock import Clock
from headway.engine import Engine, Request, Run, RunContext
from headway.engine.recorder import Recorder
from headway.events import Entry, InputRequested, decode_json
from headway.journal import open_journal
from headway.server import equipped, inspect_server
from headway.settings import Settings
from headway.testing.outcome import Outcome, Said, outcome

Answers = Mapping[str, object] | Callable[[str, dict[str, Any]], object]
"""What the client answers when a tool asks: results by method, or a function of method and
params."""

TIMEOUT = 30.0
"""Seconds of real time after which a tool that does not end is a failed test."""


async def run_tool(
    server: object,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    answers: Answers | None = None,
    settings: Settings | None = None,
    clock: Clock | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - of a test, which needs no scope of its own
) -> Outcome:
    """Call a tool of any server Headway serves, without a socket, and return what it did.

    It goes through the real engine: pacing (off, unless `settings` say otherwise), limits,
    threads, cancellation. What a client would be asked is answered by `answers`.

    Cancellation: stops the tool.

    Raises:
        SetupError: `server` cannot be served.
        TimeoutError: The tool was not done after `timeout` seconds of real time.
    """
    served = inspect_server(server)
    low = equipped(served)
    settings = settings or Settings(progress_rate=0)
    async with asyncio.timeout(timeout), open_journal("memory:", clock=clock) as journal:
        engine = Engine(journal, settings, clock=clock, options=served.options_of)
        async with low.lifespan(low) as state:
            await engine.start()
            try:
                runner = ServerRunner(low, _connection(), state)
                params = {"name": name, "arguments": dict(arguments or {})}

                async def execute(context: RunContext) -> dict[str, Any]:
                    return await runner.on_request(context, "tools/call", params)

                request = Request("tools/call", name, "test", _context(), execute)
                return await _followed(engine.launch(request), answers)
            finally:
                await engine.stop()


@contextmanager
def record() -> Generator[Said]:
    """Hear what functions say with `report`, `track`, `stage`, `log` and `part` inside.

    For functions that tools are made of; every report is heard, the last one when the context
    is left.
    """
    said = Said()
    recorder = Recorder(said.add)
    with recorder.active():
        yield said
    recorder.finish(success=False)


async def _followed(run: Run, answers: Answers | None) -> Outcome:
    entries: list[Entry] = []
    async for entry in run.journal.follow(run.stream):
        entries.append(entry)
        if isinstance(entry.event, InputRequested):
            _answer(run, entry.event, answers)
    return outcome(entries)


def _answer(run: Run, question: InputRequested, answers: Answers | None) -> None:
    params: dict[str, Any] = {} if question.params is None else decode_json(question.params)
    if callable(answers):
        run.answer(question.key, answers(question.method, params))
    elif answers is not None and question.method in answers:
        run.answer(question.key, answers[question.method])
    else:
        missing = AssertionError(f"the tool asked {question.method}; say what in answers=")
        run.answer(question.key, None, missing)


def _context() -> RunContext:
    transport = TransportContext(kind="test", can_send_request=True)
    return RunContext(1, transport, ServerMessageMetadata(), "test", {})


def _connection() -> Connection:
    connection = Connection.for_loop(cast("Any", _Deaf()), session_id="test")
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


class _Deaf:
    """The client outside of the call: there is none."""

    async def notify(self, method: str, params: object, opts: object = None) -> None:
        pass

    async def send_raw_request(self, method: str, params: object, opts: object = None) -> Any:
        raise NoBackChannelError(method)
