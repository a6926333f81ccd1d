"""The questions that a run has put to its client, and who waits for the answers."""

import asyncio
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR


class Questions:
    """Questions of one run; `name` makes their keys unique for all time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    def put(self) -> tuple[str, "asyncio.Future[Any]"]:
        """A new question: its key, and what its answer will be."""
        self._count += 1
        key = f"{self._name}.{self._count}"
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._waiting.pop(key, None))
        return key, answer

    def answer(self, key: str, result: object, error: Exception | None) -> bool:
        """Answer a question; False when nobody waits for it."""
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return False
        if error is None:
            waiting.set_result(result)
        else:
            waiting.set_exception(error)
        return True

    def expire(self, key: str) -> None:
        """Nobody answered in time."""
        self.answer(key, None, MCPError(INTERNAL_ERROR, "The client did not answer in time"))

    def give_up(self) -> None:
        """Nobody waits any more."""
        for waiting in list(self._waiting.values()):
            waiting.cancel()
