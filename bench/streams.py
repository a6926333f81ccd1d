"""Very many streams in one `headway run`: `python -m bench.streams [--streams N] [--seconds 10]`.

Each stream has an event a second, and the streams are spread over it. An event says when its
tool made it (`servers/stamped.py`); what is printed is how long after that its bytes were here, the
server's processor time, and its memory for each stream. The client has a core of its own.
"""

import argparse
import asyncio
import re
import resource
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import cast

import psutil

from bench.cpu import cpu_of
from bench.processes import LOAD_CORE, ROOT, ServerProcess, pin
from bench.wire import FIRST_ID, Wire

STAMP = re.compile(rb'"message":"at ([0-9.]+)"')
AT_ONCE = 200
"""Connections that are opened in one go."""

LIMITS = ("max_runs", "max_queue", "max_open", "max_connections")
"""The settings that bound how many there may be."""


class Stream(asyncio.Protocol):
    """One call, whose events are looked at as they come."""

    def __init__(self, request: bytes, delays: list[float]) -> None:
        self._request = request
        self._delays = delays
        self.is_over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._delays.extend(now - float(stamp) for stamp in STAMP.findall(data))
        if b'"result"' in data or b'"error"' in data:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.is_over.done():
            self.is_over.set_result(None)


async def measure(server: ServerProcess, count: int, seconds: int) -> None:
    """Open the streams over a second or more, let them go on, and print what came of it."""
    loop, delays = asyncio.get_running_loop(), list[float]()
    wire = Wire(server.port, "2026")
    arguments = {"n": 10_000, "interval": 1.0}
    before, streams = (
        psutil.Process(server.pid).memory_info().rss,
        list[tuple[asyncio.Transport, Stream]](),
    )
    for begin in range(0, count, AT_ONCE):
        template = wire.call("tick", arguments, progress=True)
        for number in range(begin, min(begin + AT_ONCE, count)):
            request = template.fill(FIRST_ID + number)
            made = await loop.create_connection(
                lambda request=request: Stream(request, delays), "127.0.0.1", server.port
            )
            streams.append(made)
        await asyncio.sleep(AT_ONCE / count)
    await asyncio.sleep(3)
    delays.clear()
    cpu, now = cpu_of(server.pid), time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - now
    used, memory = cpu_of(server.pid) - cpu, psutil.Process(server.pid).memory_info().rss
    found = sorted(delays)
    lost = sum(stream.is_over.done() for _, stream in streams)
    cuts = statistics.quantiles(found, n=1000)
    print(f"{count} streams, {lost} of them lost, {len(found) / passed:,.0f} events/s")
    print(
        f"delay in ms: median {cuts[499] * 1e3:.1f}, 99 % {cuts[989] * 1e3:.1f}, "
        f"99.9 % {cuts[998] * 1e3:.1f}, most {found[-1] * 1e3:.1f}"
    )
    print(
        f"server: {used / passed:.0%} of a core, {(memory - before) / count / 1000:.1f} kB a stream"
    )
    for transport, _ in streams:
        transport.abort()


def main() -> None:
    """Start the server, measure, stop it."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--journal", default="memory:", help="sqlite:///{directory}/j.db, redis://…"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < options.streams + 100:
        sys.exit(f"a process may have {most} open files here, too few for so many streams")
    pin(0, LOAD_CORE)
    enough = [f"--set={name}={2 * options.streams}" for name in LIMITS]
    target = f"{ROOT / 'bench/servers/stamped.py'}:mcp"
    command = ("run", target, "--port", "{port}", "--journal", options.journal, *enough)
    server = ServerProcess((str(Path(sys.executable).with_name("headway")), *command))
    try:
        server.first_answer(Wire(server.port, "2026").call("echo", {"text": "a"}).fill(FIRST_ID))
        asyncio.run(measure(server, options.streams, options.seconds))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
