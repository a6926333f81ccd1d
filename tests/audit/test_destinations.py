"""Where an audit log goes: files that are rotated, shared or full, syslog, stderr."""

import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.audit.records import make_file, mode_of, records_in, rotate, text_in
from tests.kit.floor import floor
from tests.kit.http import Answer
from tests.kit.peers import Modern, Wire, connect, each_era, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import PATIENCE, until, wait_until

from headway import Headway
from headway.audit import AuditConfig, AuditLog
from headway.audit.audit_log import MOST_WAITING
from headway.errors import SetupError

pytestmark = pytest.mark.anyio

linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def tools() -> Headway:
    mcp = Headway("audited")

    @mcp.tool()
    async def work() -> str:
        return "done"

    assert work
    return mcp


async def call(wire: Wire) -> Answer:
    return await Modern(wire).call("work")


async def lost(wire: Wire) -> str:
    page = (await (await wire.ask("GET", {}, path="/metrics")).body()).decode()
    (line,) = [each for each in page.splitlines() if each.startswith("headway_audit_lost")]
    return line.split()[-1]


async def test_a_file_is_its_owners_alone(log: Path) -> None:
    old = os.umask(0)
    try:
        async with served(tools(), audit=AuditConfig(to=str(log))):
            assert mode_of(log) == 0o600
    finally:
        os.umask(old)


async def test_a_file_that_others_read_is_named(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_file(log, mode=0o644)
    async with served(tools(), audit=AuditConfig(to=str(log))):
        assert "the audit log" in caplog.text
        assert "open to other users" in caplog.text


async def test_what_is_there_stays(log: Path) -> None:
    make_file(log, '{"event": "earlier"}\n')
    async with served(tools(), audit=AuditConfig(to=str(log))) as wire:
        await (await call(wire)).outcome()
    assert [each["event"] for each in records_in(log)] == ["earlier", "start", "call", "stop"]


@pytest.mark.parametrize("how", ["renamed", "removed", "truncated"])
async def test_a_file_may_be_rotated(how: str, log: Path) -> None:
    async with served(tools(), audit=AuditConfig(to=str(log))) as wire:
        await (await call(wire)).outcome()
        await until(lambda: records_in(log, "call"))
        moved = rotate(log, how)
        await (await call(wire)).outcome()
        await until(lambda: records_in(log, "call"))
    assert [each["event"] for each in records_in(log)] == ["call", "stop"]
    assert mode_of(log) == 0o600
    if how == "renamed":
        assert [each["event"] for each in records_in(moved)] == ["start", "call"]


@pytest.mark.parametrize("to", ["missing/audit.jsonl", "."])
async def test_a_place_that_cannot_be_opened_starts_no_server(to: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"the audit log .* cannot be written"):
        async with served(tools(), audit=AuditConfig(to=str(tmp_path / to))):
            pass


# A full disk


@linux
@each_era
async def test_a_full_disk_refuses_calls_where_the_log_is_required(
    era: str, caplog: pytest.LogCaptureFixture
) -> None:
    gated = GatedTools("quick")
    async with served(gated.mcp, audit=AuditConfig(to="/dev/full", required=True)) as wire:
        client = await connect(wire, era)
        refused = await client.call("quick")
        assert refused.status == 503
        error = json.loads(await refused.body())["error"]["message"]
        assert "audit log cannot be written (No space left on device)" in error
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.request("tools/list")).status == 200
    assert gated.runs == 0
    assert caplog.text.count("the audit log /dev/full cannot be written") == 1


@linux
async def test_a_full_disk_is_said_and_counted_where_it_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(tools(), audit=AuditConfig(to="/dev/full")) as wire:
        assert text_of(await (await call(wire)).outcome()) == "done"
        assert await lost(wire) == "0.0"
        assert caplog.text.count("the audit log /dev/full cannot be written") == 1
    assert wire.app.counters.audit_lost == 3  # start, call, stop
    assert "3 audit records were not written" in caplog.text


class Disk:
    """`os.write` onto a disk that has room for a number of bytes."""

    def __init__(self) -> None:
        self.room = 10**9
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self._write(descriptor, data[: self.room])
        self.room -= done
        return done


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("headway.audit.destinations.append_bytes", disk.write)
    return disk


async def test_calls_are_taken_again_when_there_is_room_and_nothing_is_lost(
    disk: Disk, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.audit.audit_log.RETRY_INTERVAL", 0.01)
    gated = GatedTools("wait", "quick")
    async with served(gated.mcp, audit=AuditConfig(to=str(log), required=True)) as wire:
        client = Modern(wire)
        first = await client.send(client.call_message("wait"))
        await until(lambda: gated.runs == 1)
        disk.room = 20  # the record of this call is cut
        gated.gate.open()
        await (await first.answer()).outcome()
        await until(lambda: disk.room == 0)
        records = wire.app.engine.services.options.records
        assert records is not None
        await until(lambda: records.log.failure)
        assert (await client.call("quick")).status == 503
        disk.room = 10**9
        await until(lambda: not records.log.failure)
        await (await client.call("quick")).outcome()
    found: list[dict[str, Any]] = []
    broken = 0
    for line in text_in(log).splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            broken += 1
    assert broken == 1
    told = [(each["event"], each.get("tool")) for each in found]
    assert told == [
        ("start", None), ("call", "wait"), ("refusal", None), ("call", "quick"), ("stop", None),
    ]  # fmt: skip


async def test_a_worker_takes_no_call_that_it_could_not_record(
    disk: Disk,
    log: Path,
    new_redis_url: Callable[[], str],
) -> None:
    async with floor(new_redis_url()) as site:
        disk.room = 0
        await site.worker(audit=AuditConfig(to=str(log), required=True))
        wire = await site.replica()
        client = Modern(wire)
        answer = await client.send(client.call_message("count", {"upto": 1}))
        await until(lambda: wire.app.engine.runs)
        disk.room = 10**9
        assert (await (await answer.answer()).outcome())["result"]
    assert [each["event"] for each in records_in(log)] == ["start", "call", "stop"]


# The queue


class Stuck:
    """A destination that takes nothing until it is let."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.is_stuck = True

    def open(self) -> None:
        pass

    def write(self, lines: Sequence[bytes]) -> int:
        if self.is_stuck:
            raise OSError(errno.EIO, "stuck")
        self.taken.extend(lines)
        return len(lines)

    def close(self) -> None:
        pass


def test_what_waits_is_bounded_and_refusals_leave_room_for_calls() -> None:
    lost: list[int] = []
    stuck = Stuck()
    log = AuditLog(AuditConfig(), lost.append, destination=stuck, retry_interval=0.01)
    log.open({"event": "start"})
    for _ in range(MOST_WAITING):
        log.put({"event": "refusal"}, is_refusal=True)
    assert sum(lost) == MOST_WAITING // 2 + 1
    for _ in range(MOST_WAITING // 2):
        log.put({"event": "call"})
    assert sum(lost) == MOST_WAITING // 2 + 1
    log.put({"event": "call"})
    assert sum(lost) == MOST_WAITING // 2 + 2
    stuck.is_stuck = False
    wait_until(lambda: len(stuck.taken) == MOST_WAITING)
    log.put({"event": "stop"})
    log.wait_until_written()
    log.close()
    assert json.loads(stuck.taken[-1]) == {"event": "stop"}
    assert sum(lost) == MOST_WAITING // 2 + 2


# Other places


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[], bytes]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "log"))
        made.settimeout(PATIENCE)
        yield lambda: made.recv(65536)


async def test_syslog_gets_a_message_for_each(daemon: Callable[[], bytes], tmp_path: Path) -> None:
    async with served(tools(), audit=AuditConfig(to=f"syslog:{tmp_path / 'log'}")) as wire:
        await (await call(wire)).outcome()
    for event in ("start", "call", "stop"):
        head, _, record = daemon().partition(b": ")
        assert head == b"<86>headway-audit[%d]" % os.getpid()
        assert json.loads(record)["event"] == event


async def test_syslog_may_be_elsewhere() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(PATIENCE)
        place = f"syslog:127.0.0.1:{made.getsockname()[1]}"
        async with served(tools(), audit=AuditConfig(to=place)) as wire:
            await (await call(wire)).outcome()
        assert b'"event":"start"' in made.recv(65536)
        assert b'"event":"call"' in made.recv(65536)


def test_a_message_that_is_too_long_goes_without_arguments() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(PATIENCE)
        place = f"syslog:127.0.0.1:{made.getsockname()[1]}"
        log = AuditLog(AuditConfig(to=place), lambda _number: None)
        log.open({"event": "start"})
        log.put({"event": "call", "arguments": {"text": "ü" * 20_000}})
        log.put({"event": "call", "tool": "x" * 100_000})
        log.put({"event": "stop"})
        log.wait_until_written()
        log.close()
        seen = [json.loads(made.recv(65536).partition(b": ")[2]) for _ in range(3)]
    assert [each["event"] for each in seen] == ["start", "call", "stop"]
    assert seen[1]["arguments"] == "too long"


def test_a_named_pipe_that_nobody_reads_is_refused(log: Path) -> None:
    os.mkfifo(log)
    with pytest.raises(SetupError, match="cannot be written"):
        AuditLog(AuditConfig(to=str(log)), lambda _number: None).open({"event": "start"})


def test_a_line_is_ascii(log: Path) -> None:
    made = AuditLog(AuditConfig(to=str(log)), lambda _number: None)
    made.open({"event": "ü\x9b31m\u202e\ud800"})
    made.close()
    assert log.read_bytes().isascii()
    assert json.loads(log.read_text())["event"].startswith("ü\x9b31m\u202e")


def test_a_daemon_that_was_started_again_gets_the_rest(tmp_path: Path) -> None:
    place = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first:
        first.bind(str(place))
        log = AuditLog(AuditConfig(to=f"syslog:{place}"), lambda _number: None, retry_interval=0.01)
        log.open({"event": "start"})
    place.unlink()
    log.put({"event": "call"})
    wait_until(lambda: log.failure)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
        second.bind(str(place))
        second.settimeout(PATIENCE)
        assert b'"event":"call"' in second.recv(65536)
    log.wait_until_written()
    log.close()
