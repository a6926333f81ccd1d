"""A tool that breaks the rules of its process, for storms and for the fuzzer."""

import asyncio
import sys
import time


async def sabotage(way: str) -> str:
    """Call `sys.exit`, cancel itself, leak a cancel, raise a base of its own, or hold the loop."""
    match way:
        case "exit":
            sys.exit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "leak":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        case "base":
            raise BaseException(way)
        case _:
            time.sleep(0.1)  # noqa: ASYNC251 - that is the point
    return "held"
