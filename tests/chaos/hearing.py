"""What a caller hears of a call, and whether it could have been said."""

import json
import re
from typing import Any

from tests.chaos.tally import Call, Tally
from tests.kit.http import Answer, Frame

STEP = re.compile(r"step (\w{8}) (\d+)")
DONE = re.compile(r"done (\S+) (\w{8})")

INTERRUPTED = ("went away", "the server stopped")
"""What the error of a run says whose process did not come to its end."""


class Unexpected(Exception):
    """An answer that nothing explains."""


class Stream:
    """One stream of one call, over all connections that carried it."""

    def __init__(self, tally: Tally, call: Call) -> None:
        self._tally = tally
        self._call = call
        self._kills = tally.kills
        self.said: dict[str, str] = {}
        """The messages by their event id."""
        self.first: str | None = None
        self.last: str | None = None
        self._steps: dict[str, int] = {}
        self._progress = -1.0

    @property
    def may_be_lost(self) -> bool:
        """Whether a process was killed since, perhaps before it had stored anything of it."""
        return self._tally.kills > self._kills

    def take(self, frame: Frame) -> None:
        """Note what came, and what is wrong with it."""
        if frame.id is not None:
            self._place(frame.id, frame.data or "")
        message = frame.message
        if message is None:
            return
        self._tally.count("messages")
        if message.get("method") == "notifications/progress":
            self._grow(message["params"]["progress"])
        for nonce, number in STEP.findall(frame.data or ""):
            self._step(nonce, int(number))

    def _wrong(self, what: str) -> None:
        self._tally.unless_killed(self._kills, what, self._call)

    def _place(self, event_id: str, data: str) -> None:
        if data:
            if event_id in self.said:
                self._wrong("an event id came twice")
            elif self.last is not None and _seq(event_id) <= _seq(self.last):
                self._wrong("an event came out of order")
            self.said[event_id] = data
        self.first = self.first or event_id
        self.last = event_id

    def _grow(self, progress: float) -> None:
        if progress <= self._progress:
            self._wrong("progress did not grow")
        self._progress = progress

    def _step(self, nonce: str, number: int) -> None:
        before = self._steps.get(nonce)
        expected = number if before is None and self._begins_anywhere else (before or 0) + 1
        if number != expected:
            self._wrong(f"step {number} came where {expected} was due")
        self._steps[nonce] = number

    @property
    def _begins_anywhere(self) -> bool:
        """Whether another execution goes on behind the checkpoints of the one before."""
        return self._call.tool in ("counted", "handed_anew")

    def compare(self, again: "Stream") -> None:
        """What is read again must be what was read."""
        if again.said == self.said:
            return
        other = {one for one in self.said if again.said.get(one) != self.said[one]}
        what = f"{len(other)} events read again are others, {len(again.said)} were {len(self.said)}"
        self._tally.unless_killed(self._kills, what, self._call)

    def complete(self, nonce: str) -> None:
        """The result of this execution came: everything before it must have."""
        seen = self._steps.get(nonce, 0)
        if self._begins_anywhere and nonce not in self._steps:
            seen = max(self._steps.values(), default=0)  # all was done before it began
        if self._steps and seen != self._call.steps:
            self._wrong(f"a result came behind step {seen} of {self._call.steps}")


def _seq(event_id: str) -> int:
    last = event_id.rpartition(".")[2]
    return int(last) if last.isdigit() else -1


async def hear(answer: Answer, identity: object, stream: Stream | None) -> dict[str, Any] | None:
    """The response to a request; None when the stream ended without it."""
    if not answer.is_stream:
        return await answer.json()
    while (frame := await answer.frame()) is not None:
        if stream is not None:
            stream.take(frame)
        message = frame.message
        if message is not None and message.get("id") == identity and "method" not in message:
            return message
    return None


def settle(call: Call, response: dict[str, Any]) -> bool:
    """End the call with its response, if that is an end; what is no end is left to the caller.

    Raises:
        Unexpected: The response is an error that nothing explains, or another call's result.
    """
    text = json.dumps(response)
    done = DONE.search(text)
    if done:
        if done[1] != call.job:
            raise Unexpected(f"the result of {done[1]}")
        call.end("result", done[2])
    elif any(words in text for words in INTERRUPTED):
        call.end("interrupted", error=_reason(text))
    elif '"code": -32800' in text or '"cancelled"' in text or "was cancelled" in text:
        call.end("cancelled", error=text[:200])
    elif "error" in response or response.get("result", {}).get("isError"):
        raise Unexpected(text[:300])
    return call.ended is not None


def _reason(text: str) -> str:
    return next(words for words in INTERRUPTED if words in text)
