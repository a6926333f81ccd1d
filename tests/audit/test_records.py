"""Each call, refusal and cancel stands in the audit log, once, with who did it and no secret."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from tests.audit.records import records_in, text_in
from tests.auth.issuer import RESOURCE, issuing
from tests.kit.auth import bearer, guarded_tools
from tests.kit.floor import floor
from tests.kit.peers import Modern, Session, begin, connect, each_era, served
from tests.kit.stdio import piped
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Headway, Settings
from headway.audit import AuditConfig
from headway.tokens import AuthConfig, FileToken

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def into(log: Path, **more: Any) -> AuditConfig:
    return AuditConfig(to=str(log), **more)


def tools() -> Headway:
    mcp = Headway("audited")

    @mcp.tool()
    async def work(
        path: str = "", password: str = "", options: dict[str, Any] | None = None
    ) -> str:
        return "done"

    @mcp.tool()
    async def fail(password: str = "") -> str:
        raise ToolError(f"cannot log in with {password}\nnot even twice")

    @mcp.tool()
    async def crash() -> str:
        raise ZeroDivisionError("by design")

    assert work
    assert fail
    assert crash
    return mcp


@each_era
async def test_a_call_is_recorded_at_its_end_with_all_that_is_known(era: str, log: Path) -> None:
    async with issuing() as issuer:
        auth = AuthConfig(resource=RESOURCE, issuer=issuer.url, scopes=("mcp",))
        token = bearer(issuer.token())
        more = {"Idempotency-Key": "my key", "traceparent": TRACE}
        async with served(tools(), auth=auth, audit=into(log)) as wire:
            if era == "2025":
                session = await Session.open(wire, extra={**token, **more})
                await (await session.call("work", {"path": "/etc"})).outcome()
            else:
                client = Modern(wire)
                message = client.call_message("work", {"path": "/etc"})
                await (await client.post(message, {**token, **more})).outcome()
    (record,) = records_in(log, "call")
    assert record.pop("time").endswith("Z")
    assert record.pop("run")
    assert record.pop("principal")
    assert record.pop("key") not in ("", "my key")
    assert record.pop("seconds") == 0.0
    assert record == {
        "event": "call", "server": "audited", "caller": "alice", "issuer": issuer.url,
        "client": "wire 1", "address": "127.0.0.1", "tool": "work", "arguments": ["path"],
        "attempt": 1, "end": "completed", "trace": TRACE,
    }  # fmt: skip
    assert [each["event"] for each in records_in(log)] == ["start", "call", "stop"]


@each_era
async def test_how_a_call_ended_is_its_first_line(era: str, log: Path) -> None:
    async with served(tools(), audit=into(log)) as wire:
        client = await connect(wire, era)
        for tool in ("fail", "crash", "nobody_has_this"):
            await (await client.call(tool)).outcome()
        await (await client.request("tools/list")).outcome()
    ends = {each["tool"]: (each["end"], each["error"]) for each in records_in(log, "call")}
    assert ends.keys() == {"fail", "crash", "nobody_has_this"}
    assert ends["fail"][0] == "failed"
    assert ends["fail"][1].endswith("cannot log in with")
    assert len(records_in(log, "call")) == 3


async def test_the_trace_of_meta_counts(log: Path) -> None:
    async with served(tools(), audit=into(log)) as wire:
        client = Modern(wire)
        message = client.call_message("work")
        message["params"]["_meta"]["traceparent"] = TRACE
        await (await client.post(message)).outcome()
    assert records_in(log, "call")[0]["trace"] == TRACE


@each_era
async def test_a_call_that_repeats_another_is_a_call_too(era: str, log: Path) -> None:
    gated = GatedTools("wait")
    async with served(gated.mcp, audit=into(log)) as wire:
        one, two = await connect(wire, era), await connect(wire, era)
        key = {"headway/idempotency-key": "k"}
        answers: list[asyncio.Task[Any]] = []
        for client in (one, two):
            message = client.call_message("wait")
            message["params"].setdefault("_meta", {}).update(key)
            answers.append(asyncio.create_task(client.post(message)))
            await until(lambda: gated.runs == 1)
        await until(lambda: len(wire.app.engine.runs) == 2)
        gated.gate.open()
        for answer in answers:
            await (await answer).outcome()
    first, second = sorted(records_in(log, "call"), key=lambda each: "repeats" in each)
    assert second["repeats"] == first["run"]
    assert first["key"] == second["key"]
    assert gated.runs == 1


# Arguments


SECRET = "correct horse, battery"
GIVEN = {
    "path": "/srv/a",
    "password": SECRET,
    "options": {"depth": 2, "API-Key": "k-123456", "iban": "DE02", "list": [{"token": "t-98765"}]},
}


@pytest.mark.parametrize("told", ["names", "hashes", "values"])
@each_era
async def test_arguments_are_told_as_configured_and_secrets_never(
    era: str, told: Any, log: Path
) -> None:
    audit = into(log, arguments=told, redact=("IBAN",))
    async with served(tools(), audit=audit) as wire:
        client = await connect(wire, era)
        await (await client.call("work", GIVEN)).outcome()
        await (await client.call("fail", {"password": SECRET})).outcome()
        await (await client.call("work", {"path": f"Bearer {'x' * 40}"})).outcome()
    text = text_in(log)
    for secret in (SECRET, "k-123456", "DE02", "t-98765", "x" * 40):
        assert secret not in text
        assert hashlib.sha256(json.dumps(secret).encode()).hexdigest()[:32] not in text
    work, fail, _ = records_in(log, "call")
    assert fail["error"].endswith("cannot log in with ***")
    shown = work["arguments"]
    if told == "names":
        assert shown == ["path", "password", "options"]
        return
    assert shown["password"] == "***"
    digest = hashlib.sha256(b'"/srv/a"').hexdigest()[:32]
    assert shown["path"] == ("/srv/a" if told == "values" else f"sha256:{digest}")
    if told == "values":
        hidden = {"depth": 2, "API-Key": "***", "iban": "***", "list": [{"token": "***"}]}
        assert shown["options"] == hidden


@pytest.mark.parametrize("secret", ["a\\b'c\"d", "päss\x07word", "one two\nthree four", "x" * 480])
async def test_an_error_does_not_repeat_a_secret_however_it_is_written(
    secret: str, log: Path
) -> None:
    mcp = Headway("echo")

    @mcp.tool()
    async def login(token: str) -> str:
        raise ToolError(f"{token} {token!r} {json.dumps(token)}")

    assert login
    async with served(mcp, audit=into(log)) as wire:
        await (await Modern(wire).call("login", {"token": secret})).outcome()
    (record,) = records_in(log, "call")
    for piece in (secret, secret.splitlines()[0], repr(secret)[1:-1], json.dumps(secret)[1:-1]):
        assert piece[:40] not in record["error"]


async def test_a_record_is_short_whatever_is_sent(log: Path) -> None:
    huge: dict[str, Any] = {f"n{number}{'x' * 500}": "y" * 5000 for number in range(100)}
    huge["path"] = [[number] for number in range(30_000)]
    async with served(tools(), audit=into(log, arguments="values")) as wire:
        client = Modern(wire)
        message = client.call_message("z" * 5000, huge)
        await (await client.post(message, {"traceparent": "t" * 5000})).outcome()
    assert len(text_in(log)) < 50_000
    assert len(records_in(log, "call")) == 1


async def test_nobody_forges_a_line(log: Path) -> None:
    forged = 'x\n{"event":"call"}\r\x1b[2J'
    async with served(tools(), audit=into(log, arguments="values")) as wire:
        session = await Session.open(wire)
        await (await session.call(forged, {forged: forged})).outcome()
        await (await wire.ask("POST", {"Host": "evil.example"})).body()
    assert len(records_in(log)) == 4
    assert "\x1b" not in text_in(log)


# Refusals


async def test_what_tokens_keep_out_is_recorded_once(log: Path) -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    auth = AuthConfig(tokens={"narrow": FileToken(sha256=digest)}, scopes=("mcp",))
    async with served(tools(), auth=auth, audit=into(log)) as wire:
        client = Modern(wire)
        for headers in ({}, bearer("hw_" + "n" * 40), bearer("good")):
            message = client.call_message("work")
            await (await client.post(message, {**headers, "traceparent": TRACE})).body()
        await (await wire.ask("GET", {})).body()
    refusals = records_in(log, "refusal")
    assert [each["status"] for each in refusals] == [401, 401, 403, 401]
    assert [each.get("caller") for each in refusals] == [None, None, "narrow", None]
    assert {each["address"] for each in refusals} == {"127.0.0.1"}
    assert refusals[0]["trace"] == TRACE
    assert records_in(log, "call") == []
    assert "n" * 40 not in text_in(log)


async def test_a_token_that_nobody_could_check_is_recorded(log: Path) -> None:
    async with issuing() as issuer:
        token = issuer.token()
        issuer.is_away = True
        auth = AuthConfig(resource=RESOURCE, issuer=issuer.url)
        async with served(tools(), auth=auth, audit=into(log)) as wire:
            client = Modern(wire)
            message = client.call_message("work")
            assert (await client.post(message, bearer(token))).status == 503
    assert [each["status"] for each in records_in(log, "refusal")] == [503]


async def test_a_refusal_behind_tokens_is_recorded_once(log: Path) -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    auth = AuthConfig(tokens={"alice": FileToken(sha256=digest)})
    async with served(tools(), auth=auth, audit=into(log)) as wire:
        client = Modern(wire)
        headers = {**bearer("good"), "Origin": "http://evil.example"}
        assert (await client.post(client.call_message("work"), headers)).status == 403
    (record,) = records_in(log, "refusal")
    assert (record["status"], record["caller"]) == (403, "alice")
    assert "evil.example" in record["reason"]


async def test_what_a_servers_own_auth_keeps_out_is_recorded(log: Path) -> None:
    async with served(guarded_tools().mcp, audit=into(log)) as wire:
        client = Modern(wire)
        assert (await client.call("whoami")).status == 401
        narrow = await client.post(client.call_message("whoami"), bearer("narrow:1"))
        assert narrow.status == 403
        good = await client.post(client.call_message("whoami"), bearer("alice:1"))
        await good.outcome()
    refusals = records_in(log, "refusal")
    assert [each["status"] for each in refusals] == [401, 403]
    assert [each.get("caller") for each in refusals] == [None, "narrow"]
    assert [each["caller"] for each in records_in(log, "call")] == ["alice"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)],
)
async def test_foreign_hosts_and_pages_are_recorded(
    headers: dict[str, str], status: int, log: Path
) -> None:
    async with served(tools(), audit=into(log)) as wire:
        answer = await wire.ask("POST", headers, b"{}")
        assert answer.status == status
    (record,) = records_in(log, "refusal")
    assert record["status"] == status
    assert "evil.example" in record["reason"]


async def test_each_limit_is_recorded_with_its_name(log: Path) -> None:
    gated = GatedTools("wait")
    settings = Settings(max_runs=1, max_queue=0, max_body=2000, max_head=3000)
    async with served(gated.mcp, audit=into(log), settings=settings) as wire:
        client = Modern(wire)
        first = await begin(client, "wait")
        await until(lambda: gated.runs == 1)
        assert (await client.call("wait", id=2)).status == 503
        assert (await client.call("wait", {"x": "y" * 3000})).status == 413
        assert (await wire.ask("POST", {"X-Long": "y" * 4000})).status == 431
        gated.gate.open()
        await (await first.answer()).outcome()
    found = {each["limit"]: each["status"] for each in records_in(log, "refusal")}
    assert found == {"max_queue": 503, "max_body": 413, "max_head": 431}
    assert {each["address"] for each in records_in(log, "refusal")} == {"127.0.0.1"}
    assert len(records_in(log, "call")) == 1


@each_era
async def test_scopes_and_rates_are_refused_once(era: str, log: Path) -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    auth = AuthConfig(tokens={"alice": FileToken(sha256=digest)}, tools={"crash": ("net",)})
    settings = Settings(requests_each=1)
    async with served(tools(), auth=auth, audit=into(log), settings=settings) as wire:
        token = bearer("good")
        if era == "2025":
            session = await Session.open(wire, extra=token)
            statuses = [(await session.call("crash")).status for _ in range(20)]
        else:
            client = Modern(wire)
            message = client.call_message("crash")
            statuses = [(await client.post(message, token)).status for _ in range(20)]
    refusals = records_in(log, "refusal")
    assert [each["status"] for each in refusals] == statuses
    assert set(statuses) == {403, 429}
    assert {each["caller"] for each in refusals} == {"alice"}
    assert {each.get("limit") for each in refusals} == {None, "requests_each"}
    assert records_in(log, "call") == []


# Cancels


@each_era
async def test_a_cancel_is_recorded_and_so_is_the_end(era: str, log: Path) -> None:
    gated = GatedTools("wait")
    async with served(gated.mcp, audit=into(log)) as wire:
        client = await connect(wire, era)
        call = await begin(client, "wait", id="a")
        await until(lambda: gated.runs == 1)
        if isinstance(client, Session):
            reason = "had enough\nof it"
            await client.notify("notifications/cancelled", {"requestId": "a", "reason": reason})
        else:
            call.cut()
        await until(lambda: gated.stopped == 1)
    (cancel,), (end,) = records_in(log, "cancel"), records_in(log, "call")
    assert cancel["run"] == end["run"]
    assert cancel["by"] == ("client" if era == "2025" else "connection")
    if era == "2025":
        assert cancel["reason"] == "had enough"
    assert end["end"] == "cancelled"


async def test_a_call_that_the_stop_ends_is_recorded_before_the_log_is_closed(log: Path) -> None:
    gated = GatedTools("wait")
    async with served(gated.mcp, audit=into(log)) as wire:
        await begin(Modern(wire), "wait")
        await until(lambda: gated.runs == 1)
    assert [each["event"] for each in records_in(log)][-1] == "stop"
    assert [each["end"] for each in records_in(log, "call")] in (["interrupted"], ["cancelled"])


@each_era
async def test_what_comes_over_a_pipe_is_recorded(era: str, log: Path) -> None:
    async with piped(tools(), audit=into(log)) as client:
        if era == "2025":
            await client.shake_hands()
        await client.call("work", {"path": "x"}, era=era)
    (record,) = records_in(log, "call")
    assert (record["address"], record["tool"], record["end"]) == ("pipe", "work", "completed")


# Workers


@each_era
async def test_a_call_of_a_worker_is_recorded_once(
    era: str, log: Path, new_redis_url: Callable[[], str]
) -> None:
    async with floor(new_redis_url()) as site:
        await site.worker(audit=into(log))
        wire = await site.replica(audit=into(log))
        client = await connect(wire, era)
        message = client.call_message("count", {"upto": 1})
        message["params"].setdefault("_meta", {})["headway/idempotency-key"] = "k"
        await (await client.post(message)).outcome()
        await (await client.call("fail", {"why": "no luck"})).outcome()
    count, fail = records_in(log, "call")
    assert (count["tool"], count["end"], count["client"]) == ("count", "completed", "wire 1")
    assert (count["address"], count["arguments"]) == ("127.0.0.1", ["upto"])
    assert count["key"]
    assert (fail["end"], fail["error"]) == ("failed", "Error executing tool fail: no luck")


async def test_a_call_that_no_worker_takes_is_recorded_by_its_server(
    log: Path, new_redis_url: Callable[[], str]
) -> None:
    async with floor(new_redis_url()) as site:
        wire = await site.replica(audit=into(log))
        session = await Session.open(wire)
        await begin(session, "count", id="a")
        await until(lambda: wire.app.engine.runs)
        await session.notify("notifications/cancelled", {"requestId": "a"})
        await until(lambda: not wire.app.engine.runs)
    assert [each["end"] for each in records_in(log, "call")] == ["cancelled"]
