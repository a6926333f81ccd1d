"""The load generator, a process of its own: `python -m bench.load`, one job a line on stdin."""

import asyncio
import resource
import sys

import msgspec
import psutil
import uvloop

from bench.checks import WrongAnswer
from bench.connection import ConnectionEnded
from bench.growth import memory
from bench.jobs import AnyJob, Calls, Events, Memory, Outcome, Paced
from bench.rates import calls, events, paced


async def perform(job: AnyJob) -> dict[str, float | None]:
    """Do one job within its time."""
    async with asyncio.timeout(job.timeout):
        match job:
            case Calls():
                return await calls(job)
            case Events():
                return await events(job)
            case Paced():
                return await paced(job)
            case Memory():
                return await memory(job)


def outcome_of(line: bytes) -> Outcome:
    """Do the job on a line; whatever the server did wrong becomes the error."""
    job: AnyJob = msgspec.json.decode(line, type=AnyJob)
    try:
        return Outcome(figures=uvloop.run(perform(job)))
    except (WrongAnswer, ConnectionEnded, OSError, TimeoutError, psutil.Error) as error:
        return Outcome(error=f"{type(error).__name__}: {error}")


def main() -> None:
    """Answer every job on stdin until it ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(outcome_of(line)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
