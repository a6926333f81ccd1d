"""`process_batch` against what breaks it: hostile items, templates and answers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from tests.kit.waits import PATIENCE
from tests.tools.raw_servers import Start, Turned, allowed, batch, raw_servers, reply

from headway.tools.batch import BatchLimits, is_deeper, retry_after
from headway.tools.timing import SystemClock
from headway.tools.web.hosts import Host, Hosts
from headway.tools.web.rates import KEPT, HostRate, Rates

pytestmark = pytest.mark.anyio


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as started:
        yield started


# Rates


@pytest.mark.parametrize("url", ["http://api.test:PORT?q={item}", "{item}"])
async def test_a_host_has_one_rate_however_its_url_is_spelled(start: Start, url: str) -> None:
    web = await start(lambda _: reply())
    spellings = ["http://api.test:{p}/a", "http://API.TEST:{p}", "http://api.test.:{p}?x#y"]
    items = [text.format(p=web.port) for text in spellings] + [f"http://api.test:{web.port}/b"]
    clock = Turned()
    request = {"url": url.replace("PORT", str(web.port))}
    outcome = await batch({"api.test": allowed(web.port, rate=2)}, items, request, clock=clock)
    assert outcome.result["ok"] == 4, outcome.result
    assert clock.ahead == pytest.approx(1.5)


async def test_an_item_that_keeps_failing_does_not_hold_up_the_others(start: Start) -> None:
    others = asyncio.Event()

    class Held(Turned):
        """Nobody's rest is over before the others had their answers."""

        async def sleep(self, delay: float) -> None:
            if 0.1 < delay < 30:
                await asyncio.wait_for(others.wait(), PATIENCE)
            await super().sleep(delay)

    def answer(path: str) -> bytes:
        if path == "/9":
            others.set()
        return reply(503 if path == "/0" else 200)

    web = await start(answer)
    request = {"url": f"http://api.test:{web.port}/{{item}}"}
    outcome = await batch(
        {"api.test": allowed(web.port)}, list(range(10)), request, clock=Held(), concurrency=2
    )
    assert (outcome.result["ok"], outcome.result["failed"]) == (9, 1), outcome.error


async def test_a_pause_that_a_host_asks_for_holds_for_waiting_requests_too() -> None:
    clock = Turned()
    gate = HostRate(1, clock)
    await gate.pass_through()
    waiting = asyncio.create_task(gate.pass_through())
    gate.close(20)
    await asyncio.wait_for(waiting, PATIENCE)
    assert clock.ahead == 20


async def test_a_request_cancelled_while_it_waits_takes_no_turn() -> None:
    clock = Turned()
    gate = HostRate(1, clock)
    await gate.pass_through()
    gone = asyncio.create_task(gate.pass_through())
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(gate.pass_through(), PATIENCE)
    assert clock.ahead == pytest.approx(1)


async def test_gates_of_hosts_that_nobody_asks_any_more_are_forgotten() -> None:
    clock = Turned()
    rates = Rates(clock)
    busy = rates.rate_of("busy.test", Host(rate=1))
    busy.close(PATIENCE)
    for number in range(KEPT):
        rates.rate_of(f"h{number}.test", Host())
    assert rates.rate_of("BUSY.test.", Host(rate=1)) is busy
    assert len(rates._gates) < 10


# Requests


@pytest.mark.parametrize(
    "item",
    [
        "http://xn--", "http://%zzxn--a", "http://..xn--ls8h", "http://" + "a" * 300,
        "http://api.test\u3002", "http://\u202e", "http://[", "http://[::1%25eth0]/", "\ud800",
        "http://a\tb", "//api.test/", "javascript:1", "http:api.test", "x" * 100_000,
    ],
)  # fmt: skip
async def test_no_item_ends_the_batch(start: Start, item: str) -> None:
    web = await start(lambda _: reply())
    items = [item, f"http://api.test:{web.port}/"]
    outcome = await batch({"api.test": allowed(web.port)}, items, {"url": "{item}"})
    assert outcome.result["ok"] == 1, outcome.error
    assert "log" not in outcome.result["failures"][0]["reason"]


async def test_an_unexpected_error_fails_its_item_and_is_logged(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def resolver(name: str, port: int) -> Sequence[str]:
        raise RuntimeError("secret at 10.0.0.1")

    request = {"url": "http://api.test/{item}"}
    outcome = await batch({"api.test": Host()}, [1, 2], request, resolver=resolver)
    assert outcome.result["failed"] == 2
    assert "secret" not in str(outcome)
    assert "secret at 10.0.0.1" in caplog.text


async def test_a_name_with_letters_of_its_own_is_one_name() -> None:
    for written, asked in [
        ("bücher.test", "xn--bcher-kva.test"),
        ("*.xn--bcher-kva.test", "a.BÜCHER.test"),
    ]:
        hosts = Hosts({written: Host()})
        assert hosts.allow(httpx2.URL(f"https://{asked}/"))


@pytest.mark.parametrize(
    "request_",
    [
        {"url": "http://api.test/", "method": "PUT", "body": "{item}" * 20_000},
        {"url": "http://api.test/", "method": "PUT", "body": ["{item}"] * 20_000},
        {"url": "http://api.test/", "method": "PUT", "body": ["x{item.a.b}"] * 20_000},
        {"url": "http://api.test/" + "{item}" * 600},
        {"url": "http://api.test/", "headers": {"X": "{item}" * 20_000}},
    ],
    ids=["text", "values", "fields", "url", "header"],
)
async def test_a_template_cannot_multiply_an_item(request_: dict[str, Any]) -> None:
    item = {"a": {"b": "x" * 100_000}}
    outcome = await batch({"api.test": Host()}, [item], request_)
    assert outcome.result["failures"] == [
        {"index": 0, "reason": "its request would be larger than 1,048,576 characters"}
    ]


async def test_a_request_may_be_as_large_as_its_limit(start: Start) -> None:
    web = await start(lambda _: reply())
    limits = BatchLimits(request_chars=100)
    request = {"url": f"http://api.test:{web.port}/", "method": "PUT", "body": "{item}"}
    hosts = {"api.test": allowed(web.port)}
    outcome = await batch(hosts, ["x" * 50, "x" * 100], request, limits=limits)
    assert [part["status"] for part in sorted(outcome.parts, key=lambda p: p["index"])] == [
        "ok", "failed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "sent"), [("{item}", {"a", "b"}), ("same", {"same"})], ids=["each its own", "shared"]
)
async def test_a_key_of_the_caller_s_own_says_what_may_be_repeated(
    start: Start, key: str, sent: set[str]
) -> None:
    web = await start(lambda _: reply(503))
    request = {
        "url": f"http://api.test:{web.port}/{{item}}", "method": "POST",
        "headers": {"idempotency-key": key}, "idempotent": False,
    }  # fmt: skip
    outcome = await batch({"api.test": allowed(web.port)}, ["a", "b"], request)
    assert outcome.result["attempts"] == (8 if key == "{item}" else 2)
    assert set(web.header("idempotency-key")) == sent


async def test_a_key_that_is_given_is_not_replaced(start: Start) -> None:
    web = await start(lambda _: reply())
    request = {
        "url": f"http://api.test:{web.port}/", "method": "POST", "idempotent": True,
        "headers": {"IDEMPOTENCY-KEY": "mine-{item}"},
    }  # fmt: skip
    await batch({"api.test": allowed(web.port)}, [1], request)
    assert web.header("idempotency-key") == ["mine-1"]


async def test_a_host_s_key_does_not_go_over_http() -> None:
    keyed = {"api.test": Host((80, 443), headers={"Authorization": "s3cret"})}
    fixed = await batch(keyed, [1], {"url": "http://api.test/{item}"})
    assert "over https only" in (fixed.error or "")
    each = await batch(keyed, ["http://api.test/"], {"url": "{item}"})
    assert "over https only" in each.result["failures"][0]["reason"]
    assert "s3cret" not in str([fixed, each])


# Answers


async def test_a_deep_answer_is_text_so_that_clients_can_read_the_part(start: Start) -> None:
    web = await start(lambda path: reply(body=b"[" * int(path[1:]) + b"]" * int(path[1:])))
    request = {"url": f"http://api.test:{web.port}/{{item}}"}
    outcome = await batch({"api.test": allowed(web.port)}, [3, 900], request)
    bodies = {part["item"]: part["body"] for part in outcome.parts}
    assert bodies == {3: [[[]]], 900: "[" * 900 + "]" * 900}


def test_the_depth_of_json_is_measured() -> None:
    assert not is_deeper(1, 0)
    assert not is_deeper({"a": [1]}, 2)
    assert is_deeper({"a": [1]}, 1)


@pytest.mark.parametrize(
    "body", [b"NaN", b"[1e999]", b'"\\ud800"', b'{"\\ud800": 1}', b"1" * 1990, b"\xff\0", b""]
)
async def test_any_body_is_a_part(start: Start, body: bytes) -> None:
    web = await start(lambda _: reply(body=body))
    request = {"url": f"http://api.test:{web.port}/"}
    outcome = await batch({"api.test": allowed(web.port)}, [1], request)
    assert outcome.result["ok"] == 1
    assert "body" in outcome.parts[0]


@pytest.mark.parametrize(
    "raw", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n1", b"\0" * 9]
)
async def test_what_is_no_http_is_a_failed_item(start: Start, raw: bytes) -> None:
    web = await start(lambda _: raw)
    request = {"url": f"http://api.test:{web.port}/{{item}}", "method": "POST"}
    outcome = await batch({"api.test": allowed(web.port)}, [1], request)
    assert outcome.result["failures"][0]["reason"].startswith("the connection failed")
    assert len(web.heads) == 1, "what may have been done is not done again"


@pytest.mark.parametrize(
    "text", ["9" * 400, "Mon, 99 Nov 9999 99:99:99 GMT", "0x10", "1e9", "²", "Mon, 1 Jan 0001"]
)
def test_any_retry_after_is_a_number_or_nothing(text: str) -> None:
    headers = httpx2.Headers([(b"retry-after", text.encode())])
    seconds = retry_after(headers, datetime.now(UTC))
    assert seconds is None or seconds >= 0


# Cancelling


async def test_a_cancel_closes_the_connections_at_once(start: Start) -> None:
    web = await start(None)
    request = {"url": f"http://api.test:{web.port}/{{item}}"}
    calling = asyncio.create_task(
        batch({"api.test": allowed(web.port)}, list(range(50)), request, clock=SystemClock())
    )
    await asyncio.wait_for(web.came.wait(), PATIENCE)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(calling, PATIENCE)
    await asyncio.wait_for(web.left.wait(), PATIENCE)
    assert len(web.heads) <= 8


async def test_a_cancel_does_not_wait_for_a_rest_that_a_server_asked_for(start: Start) -> None:
    web = await start(lambda _: reply(429, Retry_After="50"))
    request = {"url": f"http://api.test:{web.port}/{{item}}"}
    calling = asyncio.create_task(
        batch({"api.test": allowed(web.port)}, [1, 2], request, clock=SystemClock(), concurrency=1)
    )
    await asyncio.wait_for(web.came.wait(), PATIENCE)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(calling, PATIENCE)
