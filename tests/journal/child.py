"""The other process: `child.py URL STREAM` does to the stream what it is told on stdin."""

import asyncio
import sys

from headway.events import Completed, Event, Progress, encode_json
from headway.journal import open_journal


async def main(url: str, stream: str) -> None:
    loop = asyncio.get_running_loop()
    async with open_journal(url) as journal:
        last = (await journal.attach(stream)).last
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            event: Event = Completed(encode_json(None))
            if line[0] == "step":
                event = Progress(last + 1.0)
            last = journal.append_nowait(stream, event, after=last)
            await journal.settle(stream)
            sys.stdout.write(f"{last}\n")
            sys.stdout.flush()


asyncio.run(main(*sys.argv[1:]))
