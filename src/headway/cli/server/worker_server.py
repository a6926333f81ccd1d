"""Driving a worker: the signals, the probe for an orchestrator, and an orderly end."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus

from starlette.responses import Response

from headway.cli.exit_codes import report_line, start_failure
from headway.cli.server.event_loop import LoopName, run_until_done
from headway.cli.server.garbage_collector import tune_collector
from headway.cli.server.process_end import Deadline, exit_at_once, give_up
from headway.cli.server.signals import farewell_text, stop_on_signals
from headway.errors import HeadwayError
from headway.log_lines import quiet_logger
from headway.worker_app import Worker

logger = quiet_logger(__name__)

STOP_MARGIN = 9.0
"""Seconds that an end may take beyond `grace`, as of a server: shielded parts, the journal."""

_PROBE = 4096
"""Bytes of a probe's request that are read."""


def work_until_stopped(
    worker: Worker,
    *,
    grace: float,
    announce: Callable[[], object],
    probe: int | None = None,
    loop: LoopName = "auto",
) -> None:
    """Run a worker until a signal ends it; `announce` is called when it is ready.

    The first SIGINT, SIGTERM, SIGHUP or SIGQUIT lets runs finish, the second ends the process at
    once. On the port `probe` it answers `/healthz` and `/readyz`.

    Raises:
        SetupError: The worker could not start.
        HeadwayError: A queue cannot be served.
    """
    run_until_done(lambda: _work_in_loop(worker, grace, announce, probe), loop=loop)


async def _work_in_loop(
    worker: Worker, grace: float, announce: Callable[[], object], probe: int | None
) -> None:
    stopped = _stopped_by_signals(worker, grace)
    has_started = False
    try:
        async with _with_probe(worker, probe), worker.running():
            has_started = True
            tune_collector()
            announce()
            await _wait_until(stopped, worker)
            await _drain_worker(worker, grace)
    except HeadwayError:
        raise
    except Exception as error:
        if not has_started:
            raise start_failure(error) from error
        logger.exception("the worker stopped working")
        raise HeadwayError(f"the worker stopped working: {error}") from error


async def _wait_until(stopped: asyncio.Event, worker: Worker) -> None:
    waiting = [asyncio.create_task(stopped.wait()), asyncio.create_task(worker.failed())]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waiting:
            task.cancel()


async def _drain_worker(worker: Worker, grace: float) -> None:
    try:
        async with asyncio.timeout(grace):
            await worker.drain()
    except TimeoutError:
        logger.warning("runs were stopped that took longer than %g s to finish", grace)


def _stopped_by_signals(worker: Worker, grace: float) -> asyncio.Event:
    """Return an event that the first signal sets.

    The second signal ends the process, and so does the first one after its limit of time.
    """
    limit = grace + STOP_MARGIN
    stopped = asyncio.Event()
    deadline = Deadline((limit, partial(give_up, limit)))

    def begin(_number: int) -> None:
        report_line(farewell_text(worker, grace))
        stopped.set()

    stop_on_signals(begin, lambda number: exit_at_once(128 + number), at_once=deadline.begin)
    return stopped


@asynccontextmanager
async def _with_probe(worker: Worker, port: int | None) -> AsyncGenerator[None]:
    """Answer while inside: `/healthz` (the worker lives), `/readyz` (it takes runs), `/metrics`."""
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_probe_answer(worker, head, writer.get_extra_info("peername")))
                await writer.drain()
        except (OSError, ValueError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # the client has left, or sent no probe
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, "0.0.0.0", port, limit=_PROBE)
    except OSError as error:
        raise HeadwayError(f"port {port} for probes cannot be used: {error.strerror}") from error
    async with server:
        yield


def _probe_answer(worker: Worker, head: bytes, client: object) -> bytes:
    """Return the answer to a probe, as bytes of HTTP."""
    first, *lines = head.rstrip().split(b"\r\n")
    method, target, *_ = [*first.split(), b"", b""]
    path = target.partition(b"?")[0]
    response = None
    if path == b"/metrics":
        named = (line.partition(b":") for line in lines)
        response = worker.answer_metrics(
            {
                "type": "http",
                "method": method.decode("latin-1"),
                "path": "/metrics",
                "query_string": b"",
                "headers": [(name.strip().lower(), value.strip()) for name, _, value in named],
                "client": client,
            }
        )
    known = {b"/healthz": True, b"/readyz": worker.is_ready}.get(path)
    response = response or Response(status_code={None: 404, True: 200, False: 503}[known])
    headers = b"".join(b"%b: %b\r\n" % pair for pair in response.raw_headers)
    reason = HTTPStatus(response.status_code).phrase
    status = f"HTTP/1.1 {response.status_code} {reason}\r\n".encode()
    return status + headers + b"connection: close\r\n\r\n" + bytes(response.body)
