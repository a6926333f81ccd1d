"""The jobs that measure speed: calls, events, and the CPU that either takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from bench.checks import check_call
from bench.clients import Answers, connect
from bench.connection import Response
from bench.cpu import cpu_of
from bench.jobs import Calls, Events, Paced

SLICE = 0.25
"""Seconds of load between two checks of what came; the checks are not timed."""


@contextmanager
def staying_awake() -> Iterator[None]:
    """Keep this loop from sleeping in the kernel.

    Whoever sends to a process that sleeps pays for waking it. A server that is slower than this
    generator would pay that with each answer, and the fast one that it is compared with would not.
    """
    loop, is_over = asyncio.get_running_loop(), False

    def turn() -> None:
        if not is_over:
            loop.call_soon(turn)

    turn()
    try:
        yield
    finally:
        is_over = True


async def drive(
    pid: int,
    seconds: float,
    load: Callable[[float], Awaitable[list[Answers]]],
    check: Callable[[list[Answers]], int],
) -> dict[str, float | None]:
    """Load and check in turns; only the load counts. `check` returns how much was done."""
    done, elapsed, server = 0, 0.0, 0.0
    with staying_awake():
        while elapsed < seconds:
            begin, server_begin = time.perf_counter(), cpu_of(pid)
            answers = await load(begin + min(SLICE, seconds - elapsed))
            elapsed += time.perf_counter() - begin
            server += cpu_of(pid) - server_begin
            done += check(answers)
    return {"rate": done / elapsed, "cpu": server / done * 1e6}


async def calls(job: Calls) -> dict[str, float | None]:
    """Tool calls a second; CPU milliseconds for 1,000 of them."""
    async with AsyncExitStack() as stack:
        callers = await connect(stack, job.port, job.era, job.connections)
        texts = [f"caller {number} of the benchmark" for number in range(len(callers))]
        templates = [
            caller.wire.call("echo", {"text": text})
            for caller, text in zip(callers, texts, strict=True)
        ]

        async def load(deadline: float) -> list[Answers]:
            each = zip(callers, templates, strict=True)
            return await asyncio.gather(*(one.call_until(call, deadline) for one, call in each))

        def check(answers: list[Answers]) -> int:
            for text, mine in zip(texts, answers, strict=True):
                for response, request_id in mine:
                    check_call(response, request_id, text)
            return sum(map(len, answers))

        check(await load(time.perf_counter() + 0.05))
        return await drive(job.pid, job.seconds, load, check)


async def events(job: Events) -> dict[str, float | None]:
    """Progress events a second; CPU milliseconds for 1,000 of them."""
    async with AsyncExitStack() as stack:
        callers = await connect(stack, job.port, job.era, job.streams)

        async def load(deadline: float, count: int = job.events) -> list[Answers]:
            return await asyncio.gather(
                *(
                    one.call_until(one.wire.call("emit", {"n": count}, progress=True), deadline)
                    for one in callers
                )
            )

        def check(answers: list[Answers], count: int = job.events) -> int:
            flat = [pair for mine in answers for pair in mine]
            for response, request_id in flat:
                check_call(response, request_id, "done", count)
            return len(flat) * count

        warm_up = max(10, job.events // 10)
        check(await load(0, warm_up), warm_up)
        return await drive(job.pid, job.seconds, load, check)


async def paced(job: Paced) -> dict[str, float | None]:
    """CPU percent while every stream sends an event an interval."""
    count = int((job.seconds + 0.6) / job.interval)
    async with AsyncExitStack() as stack:
        callers = await connect(stack, job.port, job.era, job.streams)
        arguments = {"n": count, "interval": job.interval}
        tasks: list[asyncio.Task[tuple[Response, int]]] = []
        for one in callers:
            call = one.call(one.wire.call("paced", arguments, progress=True))
            tasks.append(asyncio.create_task(call))
            await asyncio.sleep(job.interval / job.streams)
        await asyncio.sleep(0.2)
        begin, cpu = time.perf_counter(), cpu_of(job.pid)
        await asyncio.sleep(job.seconds)
        percent = (cpu_of(job.pid) - cpu) / (time.perf_counter() - begin) * 100
        for response, request_id in await asyncio.gather(*tasks):
            check_call(response, request_id, "done", count)
        return {"percent": percent}
