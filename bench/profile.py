"""Where a server spends its processor time: `python -m bench.profile [--era 2025] [--work calls]`.

One server after the other is started on one core and driven from the other: the floor (bare ASGI
under the same HTTP server), and Headway serving an unchanged `MCPServer`. Printed are the processor
time of one call or event, as a multiple of the floor's too, and its shares by layer.

A sample belongs to the innermost function of a layer: what a library does for the SDK is the SDK's.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.jobs import AnyJob, Calls, Events
from bench.processes import LOAD_CORE, LoadProcess, ServerProcess, pin
from bench.servers.sampler import VARIABLE
from bench.wire import ERAS, FIRST_ID, Era, Wire

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "answers and SSE",
        (
            "headway/transport/http/json_or_sse",
            "headway/transport/http/reply",
            "headway/transport/stream_reader",
            "headway/transport/open_responses",
            "headway/protocol/render",
            "headway/journal/cursor",
            "headway/journal/stream_buffer",
        ),
    ),
    (
        "the request is read and checked",
        (
            "headway/app",
            "headway/life",
            "headway/auth",
            "headway/transport/http/endpoint",
            "headway/transport/http/exchange",
            "headway/transport/http/host_check",
            "headway/transport/http/request_body",
            "headway/transport/http/accept",
            "headway/transport/http/common_headers",
            "headway/transport/http/unfinished_requests",
            "headway/transport/http/param_headers",
            "headway/protocol/inbound",
            "headway/protocol/header_lines",
            "headway/protocol/json_text",
        ),
    ),
    ("journal", ("headway/journal", "headway/events")),
    ("engine", ("headway/engine", "headway/counters", "headway/background", "headway/run_state")),
    (
        "around the handler",
        ("headway/transport/sdk", "headway/features", "headway/api", "headway/served"),
    ),
    ("era and session", ("headway/",)),
    ("SDK: tracing", ("mcp/server/_otel", "mcp/shared/_otel", "opentelemetry/")),
    ("SDK: tool", ("mcp/server/mcpserver", "mcp/server/fastmcp", "fastmcp/", "bench/")),
    ("SDK: models", ("mcp_types/", "mcp/types", "pydantic/")),
    ("SDK: rest", ("mcp/",)),
    ("HTTP server", ("uvicorn/",)),
)
REST = "event loop"
IDLE = 0.05
"""Functions with a smaller share of the time are not listed."""


def layer_of(stack: list[str]) -> tuple[str, str]:
    """The layer of a sample, and the function of it that it belongs to."""
    for function in stack:
        for name, places in LAYERS:
            if function.startswith(places):
                return name, function
    return REST, stack[0] if stack else ""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--era", choices=ERAS, action="append", help="both, if it is not said")
    parser.add_argument("--work", choices=("calls", "events"), default="calls")
    parser.add_argument(
        "--journal", default="memory:", help="sqlite:///{directory}/j.db, redis://…"
    )
    parser.add_argument("--tools", choices=("fixture", "authored"), default="fixture")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--top", type=int, default=0, metavar="N", help="the costliest functions")
    return parser.parse_args()


@contextmanager
def serving(command: tuple[str, ...]) -> Iterator[ServerProcess]:
    """A server that answers."""
    server = ServerProcess((sys.executable, "-m", *command))
    try:
        request = Wire(server.port, "2026").call("echo", {"text": "first"}).fill(FIRST_ID)
        server.first_answer(request, 60)
        yield server
    finally:
        server.stop()


def job_of(options: argparse.Namespace, era: Era, server: ServerProcess) -> AnyJob:
    """The load: as many calls or events as are answered in the time."""
    port, pid, seconds = server.port, server.pid, options.seconds
    if options.work == "calls":
        return Calls(port=port, pid=pid, era=era, connections=32, seconds=seconds)
    return Events(port=port, pid=pid, era=era, streams=16, events=1000, seconds=seconds)


def cost_of(load: LoadProcess, job: AnyJob) -> float:
    """µs of the server's processor time for each."""
    outcome = load.perform(job)
    cpu = outcome.figures.get("cpu")
    if outcome.error is not None or cpu is None:
        sys.exit(f"the load was not answered: {outcome.error}")
    return cpu


def samples_of(load: LoadProcess, job: AnyJob, file: Path) -> list[tuple[list[str], int]]:
    """The stacks of the server while it is driven, each with its number."""
    os.kill(job.pid, signal.SIGUSR2)
    load.perform(job)
    os.kill(job.pid, signal.SIGUSR2)
    limit = time.monotonic() + 30
    while not file.exists():
        if time.monotonic() > limit:
            sys.exit("the server wrote no samples")
        time.sleep(0.01)
    found: list[tuple[list[str], int]] = json.loads(file.read_text())
    file.unlink()
    return found


def show(
    options: argparse.Namespace, floor: float, cost: float, stacks: list[tuple[list[str], int]]
) -> None:
    """Print the shares of each layer, in µs and as multiples of the floor."""
    layers: Counter[str] = Counter()
    functions: Counter[tuple[str, str]] = Counter()
    for stack, count in stacks:
        layer, function = layer_of(stack)
        layers[layer] += count
        functions[layer, function] += count
    whole = sum(layers.values())
    for layer, count in layers.most_common():
        share = count / whole
        print(f"| {layer} | {share:.0%} | {share * cost:.1f} | {share * cost / floor:.2f} |")
    for (layer, function), count in functions.most_common(options.top):
        print(f"  {count / whole * cost:6.1f} µs  {layer}: {function}")


def main() -> None:
    """Measure, sample and print."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    pin(0, LOAD_CORE)
    load = LoadProcess()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "samples.json"
        os.environ[VARIABLE] = str(file)
        product = ("bench.servers.product", "{port}", options.journal, options.tools)
        try:
            with serving(("bench.servers.floor", "{port}", "0")) as floor, serving(product) as ours:
                for era in options.era or ERAS:
                    least = cost_of(load, job_of(options, era, floor))
                    job = job_of(options, era, ours)
                    cost = cost_of(load, job)
                    one = options.work.removesuffix("s")
                    print(f"\n{era}: a {one} takes {cost:.0f} µs, {cost / least:.1f} × the floor")
                    print("| layer | share | µs | × floor |\n|---|--:|--:|--:|")
                    show(options, least, cost, samples_of(load, job, file))
        finally:
            load.stop()


if __name__ == "__main__":
    main()
