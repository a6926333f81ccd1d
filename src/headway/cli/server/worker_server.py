"""Driving a worker: the signals, the probe for an orchestrator, and an orderly end."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

from headway.cli.exit_codes import report_line, start_failure
from headway.cli.server.event_loop import LoopName, run_until_done
from headway.cli.server.garbage_collector import freeze_what_is_there
from headway.cli.server.process_end import Deadline, exit_at_once, give_up
from headway.cli.server.signals import stop_on_signals
from headway.errors import HeadwayError
from headway.worker_app import Worker

logger = logging.getLogger(__name__)

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
    """Have a worker work until a signal ends it; `announce` is called when it does.

    The first SIGINT, SIGTERM, SIGHUP or SIGQUIT lets runs finish, the second ends the process at
    once. On the port `probe` it answers `/healthz` and `/readyz`.

    Raises:
        SetupError: It could not start.
        HeadwayError: A queue cannot be served.
    """
    run_until_done(lambda: _work_in_loop(worker, grace, announce, probe), loop=loop)


async def _work_in_loop(
    worker: Worker, grace: float, announce: Callable[[], object], probe: int | None
) -> None:
    stopped = _stopped_by_signals(grace + STOP_MARGIN)
    has_started = False
    try:
        async with _with_probe(worker, probe), worker.running():
            has_started = True
            freeze_what_is_there()
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


def _stopped_by_signals(limit: float) -> asyncio.Event:
    """Set at the first signal; the second one ends the process, and so do `limit` seconds."""
    stopped = asyncio.Event()
    deadline = Deadline((limit, partial(give_up, limit)))

    def begin(_number: int) -> None:
        report_line("finishing what runs; Ctrl+C again stops at once")
        stopped.set()

    stop_on_signals(begin, lambda number: exit_at_once(128 + number), at_once=deadline.begin)
    return stopped


@asynccontextmanager
async def _with_probe(worker: Worker, port: int | None) -> AsyncGenerator[None]:
    """Answers whether the worker lives (`/healthz`) and takes runs (`/readyz`)."""
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                line = await reader.readline()
                path = [*line.split(), b"", b""][1]
                known = {b"/healthz": True, b"/readyz": worker.is_ready}.get(path)
                status = b"404 Not Found" if known is None else b"200 OK"
                if known is False:
                    status = b"503 Service Unavailable"
                head = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                writer.write(head % status)
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # nobody is asking any more
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, "0.0.0.0", port, limit=_PROBE)
    except OSError as error:
        raise HeadwayError(f"port {port} for probes cannot be used: {error.strerror}") from error
    async with server:
        yield
