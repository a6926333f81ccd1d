"""The questions that a run has put to its client, and the calls that wait for the answers."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from mcp_types.jsonrpc import INVALID_PARAMS

from headway.events import InputReceived, InputRequested, encode_json

if TYPE_CHECKING:
    from headway.engine.run.run import Run


class Questions:
    """The open questions of one attempt of one run.

    A question's id is unique for all time: an answer to a question of an earlier attempt must not
    be taken for an answer to one of this attempt.
    """

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._name = run.id if run.attempt == 1 else f"{run.id}.{run.attempt}"
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    async def ask_client(self, method: str, params: object, limit: float | None) -> dict[str, Any]:
        """Put a question to the client and wait for the answer.

        Raises:
            MCPError: The client answered with an error, or not within `limit` seconds.
        """
        run, (key, answer) = self._run, self._open_question()
        asked = InputRequested(key, method, None if params is None else encode_json(params))
        # First into the run's own stream, then to other processes: a question that can be answered
        # is one that its client can read.
        run.events.append(asked)
        run.services.remote_answers.question_asked(run, asked)
        run.hooks.on_question()
        late = MCPError(INTERNAL_ERROR, "The client did not answer in time")
        timer = (
            run.services.clock.call_later(limit, partial(self.answer_question, key, None, late))
            if limit
            else None
        )
        try:
            return await answer
        finally:
            if timer is not None:
                timer.cancel()
            is_answered = _is_answered(answer) and answer.exception() is not late
            self._close_question(key, given_up=not is_answered)

    def answer_question(self, key: str, result: object, error: Exception | None) -> bool:
        """Answer a question; return False when nothing waits for it."""
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return False
        if error is None:
            waiting.set_result(result)
        else:
            waiting.set_exception(error)
        return True

    def unanswered_events(self) -> list[InputReceived]:
        """Return the events that close the questions which are unanswered as the run ends."""
        answers = self._waiting.items()
        return [InputReceived(key, True) for key, answer in answers if not _is_answered(answer)]

    def give_up_all(self) -> None:
        """Cancel all calls that wait for an answer."""
        for waiting in list(self._waiting.values()):
            waiting.cancel()

    def _open_question(self) -> tuple[str, "asyncio.Future[Any]"]:
        self._count += 1
        key = f"{self._name}.{self._count}"
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        return key, answer

    def _close_question(self, key: str, *, given_up: bool) -> None:
        # After the run's end `unanswered_events` has closed the question, and the stream takes
        # nothing more.
        if self._waiting.pop(key, None) is not None and not self._run.ended:
            self._run.events.append(InputReceived(key, given_up))
            self._run.services.remote_answers.question_closed(self._run, key)


def _is_answered(answer: "asyncio.Future[Any]") -> bool:
    return answer.done() and not answer.cancelled()


def client_error(error: Any) -> MCPError:
    """Return the exception for an error that a client has answered with."""
    match error:
        case {"code": int(code), "message": str(text)}:
            return MCPError(code, text, error.get("data"))
        case _:
            return MCPError(INVALID_PARAMS, "The client answered with a malformed error")
