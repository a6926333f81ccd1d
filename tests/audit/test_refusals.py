"""Refusals in the audit log: of any kind, with who was refused, and no flood of them."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.audit.records import records_in
from tests.kit.auth import bearer
from tests.kit.peers import Session, served
from tests.kit.waits import until

from headway import Headway
from headway.audit import AuditConfig
from headway.audit.refusal_rate import BURST, RefusalRate
from headway.tokens import AuthConfig, FileToken

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def into(log: Path, **more: Any) -> AuditConfig:
    return AuditConfig(to=str(log), **more)


def token_of(text: str) -> FileToken:
    return FileToken(sha256=hashlib.sha256(text.encode()).hexdigest())


def tools() -> Headway:
    mcp = Headway("audited")

    @mcp.tool()
    async def work() -> str:
        return "done"

    @mcp.tool()
    async def crash() -> str:
        raise ZeroDivisionError("by design")

    assert work
    assert crash
    return mcp


async def test_two_tokens_in_one_request_are_recorded(log: Path) -> None:
    auth = AuthConfig(tokens={"alice": token_of("good")})
    async with served(tools(), auth=auth, audit=into(log)) as wire:
        lines = [("Authorization", "Bearer good"), ("authorization", "Bearer other")]
        assert (await wire.ask("POST", dict(lines), b"{}")).status == 400
    (record,) = records_in(log, "refusal")
    assert (record["status"], "more than one value" in record["reason"]) == (400, True)


async def test_what_is_wrong_with_a_requests_form_is_recorded(log: Path) -> None:
    async with served(tools(), audit=into(log)) as wire:
        json = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        text = {**json, "Content-Type": "text/plain"}
        asked = [
            ("POST", json, b"{"), ("POST", json, b"[1]"), ("POST", text, b"{}"), ("PUT", json, b""),
        ]  # fmt: skip
        statuses = [(await wire.ask(*each)).status for each in asked]
    refusals = records_in(log, "refusal")
    assert statuses == [400, 400, 415, 405]
    assert [each["status"] for each in refusals] == statuses
    assert {each["address"] for each in refusals} == {"127.0.0.1"}
    assert all(each["reason"] for each in refusals)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_session_that_is_unknown_or_another_callers_is_recorded(
    method: str, log: Path
) -> None:
    tokens = {name: token_of(name) for name in ("alice", "mallory")}
    async with served(tools(), auth=AuthConfig(tokens=tokens), audit=into(log)) as wire:
        session = await Session.open(wire, extra=bearer("alice"))
        for its_id in (session.id, "0" * 32):
            thief = Session(wire, session.version, its_id, bearer("mallory"))
            if method == "POST":
                answer = await thief.post(thief.call_message("work"))
            else:
                answer = await wire.ask(method, thief.headers())
            assert answer.status == 404
    refusals = records_in(log, "refusal")
    assert [(each["status"], each["caller"]) for each in refusals] == [(404, "mallory")] * 2
    assert records_in(log, "call") == []


async def test_a_member_of_a_batch_that_lacks_a_scope_is_recorded(log: Path) -> None:
    auth = AuthConfig(tokens={"alice": token_of("good")}, tools={"crash": ("net",)})
    async with served(tools(), auth=auth, audit=into(log)) as wire:
        session = await Session.open(wire, "2025-03-26", extra=bearer("good"))
        messages = [session.call_message("crash"), session.call_message("work")]
        await (await session.post(messages)).body()
    (record,) = records_in(log, "refusal")
    assert (record["status"], record["caller"]) == (403, "alice")
    assert "crash needs the scope net" in record["reason"]


async def test_a_flood_of_refusals_is_some_records_and_a_count(log: Path) -> None:
    many = 3 * BURST
    auth = AuthConfig(tokens={"alice": token_of("good")})
    config = into(log, refusal_rate=0.001)
    async with served(tools(), auth=auth, audit=config) as wire:
        for _ in range(many):
            assert (await wire.ask("POST", {}, b"{}")).status == 401
        # Nobody's flood hides no refusal of a caller.
        foreign = {**bearer("good"), "Origin": "http://evil.example"}
        assert (await wire.ask("POST", foreign, b"{}")).status == 403
    refusals = records_in(log, "refusal")
    assert [each["status"] for each in refusals] == [401] * BURST + [403, 401]
    assert refusals[-1]["left_out"] == many - BURST - 1
    assert [each.get("left_out") for each in refusals[:-1]] == [None] * (BURST + 1)


# The rate


class Clock:
    """Seconds that a test turns on by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(rate: float) -> tuple[RefusalRate, Clock, list[dict[str, object]]]:
    clock, put = Clock(), list[dict[str, object]]()
    return RefusalRate(rate, put.append, clock), clock, put


def test_a_kind_has_its_rate_after_what_may_come_at_once() -> None:
    rate, clock, put = made(2)
    for number in range(BURST + 5):
        rate.take("a", {"n": number})
    assert put == [{"n": number} for number in range(BURST)]
    clock.now += 1
    for number in range(3):
        rate.take("a", {"more": number})
    assert put[BURST:] == [{"more": 0, "left_out": 5}, {"more": 1}]
    clock.now += 1000
    for number in range(2 * BURST):
        rate.take("a", {"late": number})
    assert len(put) == BURST + 2 + BURST
    assert put[BURST + 2] == {"late": 0, "left_out": 1}


def test_kinds_have_room_of_their_own_and_the_stop_tells_of_each() -> None:
    rate, _, put = made(1)
    for _ in range(BURST + 3):
        rate.take("a", {"kind": "a"})
        rate.take("b", {"kind": "b"})
    assert len(put) == 2 * BURST
    rate.tell_all()
    assert put[2 * BURST :] == [{"kind": "a", "left_out": 2}, {"kind": "b", "left_out": 2}]
    rate.tell_all()
    assert len(put) == 2 * BURST + 2


async def test_what_was_left_out_is_told_without_another_refusal() -> None:
    put: list[dict[str, object]] = []
    rate = RefusalRate(1000, put.append, lambda: 0.0)
    for number in range(BURST + 4):
        rate.take("a", {"n": number})
    assert len(put) == BURST
    await until(lambda: len(put) > BURST)
    assert put[BURST:] == [{"n": BURST + 3, "left_out": 3}]
