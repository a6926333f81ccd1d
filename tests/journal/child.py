"""The other process: `child.py URL STREAM` does to the stream what it is told on stdin.

It looks at the stream when it is first told something, so that a test knows what it has seen.
"""

import asyncio
import sys

from headway.events import Completed, Event, Progress, encode_json
from headway.journal import open_journal


async def main(url: str, stream: str) -> None:
    loop = asyncio.get_running_loop()
    async with open_journal(url) as journal:
        last: int | None = None
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            if last is None:
                last = (await journal.attach_stream(stream)).last
            event: Event = Completed(encode_json(None))
            if line[0] == "step":
                event = Progress(last + 1.0)
            last = journal.append_nowait(stream, event, after=last)
            await journal.wait_until_stored(stream)
            sys.stdout.write(f"{last}\n")
            sys.stdout.flush()


asyncio.run(main(*sys.argv[1:]))
