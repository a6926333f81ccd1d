"""`process_batch`: one HTTP request for each item, a few at a time, each outcome as it comes.

The tool reads top to bottom: fill in the request for an item, send it when its host may be asked,
try again where that can help, report the outcome. `web` sends a request safely, and `template` puts
items into it.
"""

import asyncio
import json
import logging
import random
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, cast
from uuid import uuid4

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from headway import log, part, report
from headway.protocol.header_lines import retry_after
from headway.tools.redaction import Secrets
from headway.tools.roots import printable_name
from headway.tools.template import BadItem, RequestTemplate, fill, fixed_url
from headway.tools.timing import Clock, SystemClock
from headway.tools.web.charsets import decode
from headway.tools.web.fetching import Answer, Ask, Fetcher, FetchFailed
from headway.tools.web.hosts import Forbidden, Hosts, Resolver, host_of
from headway.tools.web.rates import HostRate, Rates

logger = logging.getLogger(__name__)

ATTEMPTS = 4
BACKOFF = 0.5
LONGEST_WAIT = 60.0
"""The longest pause, in seconds, that a server may ask for; after a longer one the item fails."""

RETRIED = {429, 502, 503, 504}
BODY_SHOWN = 2000
BODY_DEPTH = 32
"""Levels of JSON. A deeper body is shown as text: clients refuse messages that are too deep."""

ITEM_SHOWN = 200
REASON_SHOWN = 300
FAILURES_SHOWN = 20

Items = Annotated[
    list[Any],
    Field(min_length=1, description="What the requests are about: text, numbers or objects."),
]
Concurrency = Annotated[int, Field(ge=1, le=32, description="Requests at once.")]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The limits of one call; sizes in bytes."""

    items: int = 10_000
    request_chars: int = 1024 * 1024
    """The largest request that is made of an item; a larger one fails its item."""
    answer_bytes: int = 1024 * 1024
    """The largest answer that is read; a larger one fails its item."""
    timeout: float = 30.0
    """Seconds for one attempt."""


class BatchFailure(BaseModel):
    """An item that failed, and why."""

    index: int
    reason: str


class BatchSummary(BaseModel):
    """What came of a call: `items` is the sum of `ok` and `failed`."""

    items: int
    ok: int
    failed: int
    attempts: int = Field(description="Requests sent, those that were repeated among them")
    failures: list[BatchFailure] = Field(description="The first items that failed")


class Outcome(NamedTuple):
    """What came of one item."""

    attempts: int
    answer: Answer | None
    reason: str | None

    def mask_reason(self, secrets: Secrets) -> "Outcome":
        """Return the failure with a reason that may be shown."""
        if self.reason is None:
            return self
        return self._replace(
            reason=secrets.mask_beginning(printable_name(self.reason), REASON_SHOWN)
        )


class BatchTool:
    """The tool that sends requests to `hosts`."""

    def __init__(
        self,
        hosts: Hosts,
        *,
        limits: BatchLimits | None = None,
        clock: Clock | None = None,
        resolver: Resolver | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._hosts = hosts
        self._secrets = hosts.secrets | (secrets or Secrets())
        self._limits = limits or BatchLimits()
        self._clock = clock or SystemClock()
        self._resolver = resolver
        self._rates = Rates(self._clock)

    async def process_batch(
        self, items: Items, request: RequestTemplate, concurrency: Concurrency = 8
    ) -> BatchSummary:
        """Send one HTTP request for each item and report each outcome as it comes.

        `{item}` and `{item.field}` in the request stand for the item, in single braces and no other
        form. Requests go to allowed hosts only, at their rate. What fails for the moment (no
        connection, 429, 502, 503, 504) is tried again, later and later or when the server says;
        POST and PATCH only when the request is `idempotent`. An item that fails does not stop the
        others.
        """
        self._check_request(items, request)
        tally = BatchTotals(len(items))
        queue = iter(enumerate(items))
        fetcher = Fetcher(
            self._hosts,
            self._clock,
            largest=self._limits.answer_bytes,
            seconds=self._limits.timeout,
            resolver=self._resolver,
        )
        report(0, len(items), f"Sending {len(items)} requests")
        async with fetcher, asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(items))):
                group.create_task(self._work_on_items(queue, request, fetcher, tally))
        return tally.summary()

    def _check_request(self, items: list[Any], request: RequestTemplate) -> None:
        """Refuse a request of which it is known before that it fails."""
        if len(items) > self._limits.items:
            raise ToolError(
                f"{len(items):,} items are more than one call takes ({self._limits.items:,}); "
                "split them into several"
            )
        fault = request.find_fault(items)
        if fault is not None:
            raise ToolError(f"Nothing was sent. {fault}.")
        url = fixed_url(request.url)
        if url is not None:
            try:
                self._hosts.allow(url)
            except Forbidden as error:
                reason = self._secrets.mask(str(error))[:REASON_SHOWN]
                raise ToolError(f"Nothing was sent. The request cannot be: {reason}") from error

    async def _work_on_items(
        self,
        queue: Iterator[tuple[int, Any]],
        request: RequestTemplate,
        fetcher: Fetcher,
        tally: "BatchTotals",
    ) -> None:
        for index, item in queue:
            begin = self._clock.now()
            try:
                outcome = await self._process_item(request, item, fetcher)
            except Exception:  # noqa: BLE001 - whatever an item makes of a library, the others go on
                # Not with `exception`: what a library says may have a header in it.
                told = self._secrets.mask(traceback.format_exc())
                logger.error("item %d raised: %s", index, told)
                outcome = Outcome(0, None, "it failed for a reason that is in the server's log")
            seconds = self._clock.now() - begin
            outcome = outcome.mask_reason(self._secrets)
            self._report_outcome(index, item, outcome, seconds)
            tally.add_outcome(index, outcome)
            report(tally.done, tally.items, f"{tally.ok} ok, {tally.failed} failed")

    def _report_outcome(self, index: int, item: Any, outcome: "Outcome", seconds: float) -> None:
        """Report the outcome of one item; one that cannot be reported must not end the others."""
        try:
            part(describe_outcome(index, item, outcome, seconds, self._secrets))
        except ValueError as error:
            log(f"item {index}: its part cannot be told ({error})"[:REASON_SHOWN], "warning")

    async def _process_item(self, request: RequestTemplate, item: Any, fetcher: Fetcher) -> Outcome:
        """Return the outcome of one item, however often it has to be tried."""
        try:
            ready = self._prepare_request(request, item)
        except (BadItem, Forbidden) as error:
            return Outcome(0, None, str(error))
        attempt = 0
        while True:
            attempt += 1
            await ready.gate.pass_through()
            answer, problem = None, ""
            try:
                answer = await fetcher.fetch(ready.ask)
            except FetchFailed as failed:
                problem, again = str(failed), failed.transient and ready.may_repeat
            else:
                if request.accepts(answer.status):
                    return Outcome(attempt, answer, None)
                problem = f"status {answer.status}"
                again = answer.status == 429 or (answer.status in RETRIED and ready.may_repeat)
            asked = None if answer is None else retry_after(answer.headers, datetime.now(UTC))
            wait = retry_pause(attempt) if asked is None else asked
            if not again or attempt == ATTEMPTS:
                return Outcome(attempt, answer, problem)
            if wait > LONGEST_WAIT:
                problem += f"; it asks to wait {wait:g} s, which is too long"
                return Outcome(attempt, answer, problem)
            if asked is not None or (answer is not None and answer.status == 429):
                ready.gate.close(wait)  # the host wants a rest from everybody, not from this item
            await self._clock.sleep(wait)

    def _prepare_request(self, request: RequestTemplate, item: Any) -> "Ready":
        ask = fill(request, item, self._limits.request_chars)
        if request.idempotent and not request.has_key:
            ask = replace(ask, headers={**ask.headers, "Idempotency-Key": str(uuid4())})
        url = fixed_url(ask.url)
        if url is None:
            raise BadItem("it makes no URL")
        host = self._hosts.allow(url)
        may_repeat = request.may_repeat or host.retry_unsafe
        return Ready(ask, self._rates.rate_of(host_of(url), host), may_repeat)


class Ready(NamedTuple):
    """A request that may be sent."""

    ask: Ask
    gate: HostRate
    may_repeat: bool


@dataclass(slots=True)
class BatchTotals:
    """The outcomes so far, added up."""

    items: int
    ok: int = 0
    failed: int = 0
    attempts: int = 0
    failures: list[BatchFailure] = field(default_factory=list[BatchFailure])

    @property
    def done(self) -> int:
        """Return items with an outcome."""
        return self.ok + self.failed

    def add_outcome(self, index: int, outcome: Outcome) -> None:
        """Count one item."""
        self.attempts += outcome.attempts
        if outcome.reason is None:
            self.ok += 1
            return
        self.failed += 1
        if len(self.failures) < FAILURES_SHOWN:
            self.failures.append(BatchFailure(index=index, reason=outcome.reason))

    def summary(self) -> BatchSummary:
        """Return the result of the call."""
        return BatchSummary(
            items=self.items,
            ok=self.ok,
            failed=self.failed,
            attempts=self.attempts,
            failures=sorted(self.failures, key=lambda failure: failure.index),
        )


def retry_pause(attempt: int) -> float:
    """Return the seconds until the next attempt: longer each time, and random, so that many clients
    do not come back together.
    """
    return BACKOFF * 2 ** (attempt - 1) * (0.5 + random.random() / 2)


def describe_outcome(
    index: int, item: Any, outcome: Outcome, seconds: float, secrets: Secrets
) -> dict[str, Any]:
    """Return the outcome of an item as a part."""
    answer = outcome.answer
    return {
        "index": index,
        "item": shorten_item(item),
        "status": "ok" if outcome.reason is None else "failed",
        **({} if answer is None else {"http_status": answer.status}),
        "attempts": outcome.attempts,
        "seconds": round(seconds, 3),
        **({} if outcome.reason is None else {"error": outcome.reason}),
        **({} if answer is None else shown_body(answer, secrets)),
    }


def shorten_item(item: Any) -> Any:
    """Return an item as it is, or the beginning of its JSON."""
    try:
        text = json.dumps(item, ensure_ascii=False)
    except ValueError:  # a number with more digits than Python writes
        return "…"
    return item if len(text) <= ITEM_SHOWN else printable_name(text[:ITEM_SHOWN]) + "…"


def shown_body(answer: Answer, secrets: Secrets) -> dict[str, Any]:
    """Return an answer's `body` as JSON or text, or its beginning; with a `note` if some of it
    cannot be read.
    """
    kept = (BODY_SHOWN + secrets.longest) * 4  # bytes of the longest characters
    is_whole = len(answer.body) <= kept
    content_type = answer.headers.get("content-type")
    text, problem = decode(answer.body[:kept], content_type, is_whole=is_whole)
    note = {} if problem is None else {"note": f"{problem}; what could not be read is \ufffd"}
    if is_whole and len(text) <= BODY_SHOWN:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            if not is_deeper(value, BODY_DEPTH):
                return {"body": secrets.mask_json(value), **note}
    return {"body": secrets.mask_beginning(printable_name(text), BODY_SHOWN), **note}


def is_deeper(value: object, levels: int) -> bool:
    """Return whether a JSON value has more levels of lists and objects."""
    layer = [value]
    for _ in range(levels + 1):
        inner: list[object] = []
        for each in layer:
            if isinstance(each, dict):
                inner += cast("dict[str, object]", each).values()
            elif isinstance(each, list):
                inner += cast("list[object]", each)
        if not inner:
            return False
        layer = inner
    return True
