"""The processes that are fuzzed: one behind a socket, one on a pipe."""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import psutil
from tests.fuzz.catalogue import (
    ACCEPT,
    Request,
    World,
    envelope,
    handshake,
)
from tests.fuzz.judge import judge, judge_message, key_of
from tests.fuzz.mutate import on_the_wire
from tests.fuzz.target import Figures
from tests.fuzz.wire import (
    Answer,
    Broken,
    Connection,
    Sent,
    is_open_ended,
    messages_in,
)
from tests.kit.peers import MODERN, VERSIONS
from tests.kit.waits import PATIENCE

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 60.0


SABOTAGE = b"tool 'sabotage'"
"""What a record of the log says of the tool that breaks the rules of its process."""


def _records(said: bytes) -> list[bytes]:
    """What was logged, record by record: each begins with its level or its time."""
    return re.split(rb"^(?=[A-Z]+:\w|\d{4}-\d\d-)", said, flags=re.MULTILINE)


class _Log:
    """What a process says on stderr. A traceback in it is a finding, but of a tool's sabotage."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._seen = 0

    def check(self) -> None:
        """Raise `Broken` for a traceback since the last look."""
        size = os.fstat(self.file.fileno()).st_size
        if size == self._seen:
            return
        said = os.pread(self.file.fileno(), size - self._seen, self._seen)
        self._seen = size
        if any(b"Traceback" in record and SABOTAGE not in record for record in _records(said)):
            raise Broken(f"logged: {said.decode(errors='replace')[-6000:]}")


class HttpServer:
    """`tests.fuzz.target` as a process; with a call that waits for an answer when it `asks`."""

    def __init__(self, *settings: str, asks: bool = True) -> None:
        self._asks = asks
        self._log = _Log()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.target", *settings],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=self._log.file, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], STARTS_WITHIN)
        origin = self._process.stdout.readline() if readable else b""
        if not origin:
            self._process.kill()
            raise Broken("the server did not start")
        self.port = int(origin.rpartition(b":")[2])
        self.world = World(self.port)
        self._numbers = 0
        self._calm = Connection(self.port)
        self._asking = Connection(self.port)
        try:
            self.renew()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "HttpServer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._calm.__exit__()
        self._asking.__exit__()
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.file.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def strike(self, data: bytes) -> Answer:
        """Send bytes on a connection of their own, judge what comes, and call a tool after it.

        Raises:
            Broken: The answer is none that may be, or the server is not well any more.
        """
        with Connection(self.port) as connection:
            answer = connection.exchange(data)
        sent = Sent(data)
        judge(sent, answer)
        self._log.check()
        self.check()
        if sent.method == "DELETE" and answer.status == 200:
            self.renew()
        return answer

    def check(self) -> None:
        """Raise `Broken` unless an ordinary call on an old connection is answered."""
        self._numbers += 1
        params = envelope({"name": "add", "arguments": {"a": self._numbers, "b": 1}})
        answer = self._ask("tools/call", params, id=self._numbers)
        if answer.outcome().get("result", {}).get("structuredContent") != {
            "result": self._numbers + 1
        }:
            raise Broken(f"a call is not answered any more: {answer}")

    def figures(self) -> Figures:
        """What the server holds."""
        host = ("Host", f"127.0.0.1:{self.port}")
        request = on_the_wire(Request("GET", [host], path="/figures"))
        with Connection(self.port) as connection:
            return Figures(**connection.exchange(request).outcome())

    def settle(self, is_calm: Callable[[Figures], bool], within: float = 30.0) -> Figures:
        """The figures once `is_calm`, or the last ones seen."""
        limit = time.monotonic() + within
        while not is_calm(figures := self.figures()) and time.monotonic() < limit:
            time.sleep(0.2)
        return figures

    # What inputs may name

    def renew(self) -> None:
        """Begin a new world: sessions, a run with events, and tasks of both eras."""
        self.leave()
        names = self.world.names
        names.clear()
        for version in VERSIONS:
            answer = self._ask("initialize", handshake(version), version=None)
            names[f"session-{version}"] = session = answer.headers["mcp-session-id"]
            self._ask("notifications/initialized", {}, version=version, session=session, id=None)
        session = names["session-2025-11-25"]
        self._name_events(session)
        if self._asks:
            self._name_questions(session)
        later = {"name": "later", "arguments": {}}
        names["task"] = self._ask("tools/call", envelope(later)).outcome()["result"]["taskId"]
        old = self._ask("tools/call", {**later, "task": {}}, version="2025-11-25", session=session)
        names["old-task"] = old.outcome()["result"]["task"]["taskId"]

    def _name_events(self, session: str) -> None:
        names = self.world.names
        say = {"name": "say", "arguments": {"text": "x"}, "_meta": {"progressToken": 7}}
        told = self._ask("tools/call", say, version="2025-11-25", session=session)
        ids = [line[4:] for line in told.body.decode().splitlines() if line.startswith("id: ")]
        names["event"] = ids[1]
        names["run"] = ids[1].partition(".")[0]
        own = on_the_wire(Request("GET", self._headers("2025-11-25", session)))
        with Connection(self.port) as connection:
            opening = connection.exchange(own).body.decode()
        names["own-event"] = opening.partition("\n")[0].removeprefix("id: ")

    def _name_questions(self, session: str) -> None:
        """A question that waits for its answer, and a task that waits for one."""
        names = self.world.names
        params = {"name": "ask", "arguments": {"question": "who?"}}
        self._asking.__exit__()
        self._asking = Connection(self.port)
        data = self._request("tools/call", params, version="2025-11-25", session=session, id=99)
        said = self._asking.exchange(data, until=b"elicitation/create").body
        names["question"] = json.loads(said.rstrip().rpartition(b"data: ")[2])["id"]
        task = self._ask("tools/call", envelope(params)).outcome()["result"]["taskId"]
        shown = self._ask("tasks/get", envelope({"taskId": task})).outcome()["result"]
        names["asked"], names["input"] = task, next(iter(shown["inputRequests"]))

    def leave(self) -> None:
        """Close the sessions of the world."""
        for version in VERSIONS:
            session = self.world.names.pop(f"session-{version}", None)
            if session is not None:
                self._calmly(on_the_wire(Request("DELETE", self._headers(version, session))))

    def _headers(self, version: str | None, session: str | None) -> list[tuple[str, str]]:
        headers = [("Host", f"127.0.0.1:{self.port}"), ("Accept", ACCEPT)]
        headers += [("MCP-Protocol-Version", version)] if version else []
        headers += [("Mcp-Session-Id", session)] if session else []
        return headers

    def _request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        version: str | None = MODERN,
        session: str | None = None,
        id: int | None = 1,
    ) -> bytes:
        headers = [*self._headers(version, session), ("Content-Type", "application/json")]
        if version == MODERN:
            name = params.get("name") or params["taskId"]
            headers += [("Mcp-Method", method), ("Mcp-Name", name)]
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        if id is None:
            del body["id"]
        return on_the_wire(Request("POST", headers, body))

    def _ask(self, method: str, params: dict[str, Any], **options: Any) -> Answer:
        """A request as it should be."""
        data = self._request(method, params, **options)
        answer = self._calmly(data)
        judge(Sent(data), answer)
        return answer

    def _calmly(self, data: bytes) -> Answer:
        """The answer to a request on the connection that is there from the beginning."""
        try:
            return self._calm.exchange(data, whole=True)
        except (Broken, ConnectionError):
            # An idle connection is closed, which is fine; who comes again must be let in.
            self._calm.__exit__()
            self._calm = Connection(self.port)
            return self._calm.exchange(data, whole=True)


class PipeServer:
    """`headway run … --stdio` as a process."""

    def __init__(self) -> None:
        self._log = _Log()
        command = ["run", "tests/fuzz/target.py:mcp", "--stdio"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headway", *command],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log.file,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # the target has something of the kit
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        self._buffer = b""
        self._numbers = 0
        self._owed: set[str] = set()
        self.world = World(0)
        self.shake_hands()

    def __enter__(self) -> "PipeServer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.file.close()

    def shake_hands(self) -> None:
        """Begin a new session, and make a task."""
        self._owed.clear()  # a new session ends the calls of the one before it
        hello = {"jsonrpc": "2.0", "id": "hello", "method": "initialize"}
        self._say({**hello, "params": handshake("2025-03-26")})
        self._until("hello", STARTS_WITHIN)
        later = envelope({"name": "later", "arguments": {}})
        self._say({"jsonrpc": "2.0", "id": "task", "method": "tools/call", "params": later})
        task = self._until("task")["result"]["taskId"]
        self.world.names |= {"task": task, "old-task": task, "run": task}

    def strike(self, line: bytes) -> None:
        """Send a line, judge all that comes, and have a ping answered after it.

        Raises:
            Broken: An answer is none that may be, or there is none.
        """
        self._numbers += 1
        sentinel = f"sentinel-{self._numbers}"
        owed = _owed(line)
        self._owed |= owed
        self._write(line + b"\n")
        self._say({"jsonrpc": "2.0", "id": sentinel, "method": "ping"})
        self._until(sentinel, owed=owed)
        self._log.check()
        if b"initialize" in line:
            self.shake_hands()

    def settle(self) -> None:
        """Raise `Broken` unless every request is answered in the end."""
        limit = time.monotonic() + PATIENCE
        while self._owed:
            try:
                self._hear(self._next(limit))
            except TimeoutError:
                raise Broken(f"never answered: {sorted(self._owed)[:5]}") from None

    def rss(self) -> int:
        """Resident bytes of the process."""
        return psutil.Process(self._process.pid).memory_info().rss

    def _hear(self, message: Any) -> Any:
        judge_message(message)
        if "method" not in message:
            self._owed.discard(key_of(message["id"]))
        return message

    def _until(self, identity: str, within: float = PATIENCE, owed: Iterable[str] = ()) -> Any:
        """Hear all messages up to the answer to a request, and give that."""
        limit = time.monotonic() + within
        while True:
            try:
                message = self._hear(self._next(limit))
            except TimeoutError:
                raise Broken(f"no answer to {identity}") from None
            if message.get("id") is None and "error" in message:
                self._owed.difference_update(owed)  # refused before its id was looked at
            if message.get("id") == identity and "method" not in message:
                return message

    def _say(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        limit = time.monotonic() + PATIENCE
        while data:
            readable, writable, _ = select.select([self._from], [self._to], [], PATIENCE)
            if readable:  # a server whose answers are not read reads no further
                self._read()
            if writable:
                try:
                    data = data[os.write(self._to, data) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise Broken("the process has ended") from None
            if time.monotonic() > limit:
                raise Broken("a line is not read")

    def _read(self) -> None:
        piece = os.read(self._from, 65536)
        if not piece:
            raise Broken(f"the process has ended: {self._process.poll()}")
        self._buffer += piece

    def _next(self, limit: float) -> Any:
        """The next message.

        Raises:
            TimeoutError: There is none until `limit`.
        """
        while b"\n" not in self._buffer:
            left = max(0.0, limit - time.monotonic())
            if not select.select([self._from], [], [], left)[0]:
                raise TimeoutError
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            raise Broken(f"no JSON on a line: {line[:300]!r}") from None


def _owed(line: bytes) -> set[str]:
    """The ids that a line must be answered with, in the end.

    Not those of requests that wait for news, nor what is in a batch: what is wrong with one of its
    messages may be wrong with all.
    """
    if b"\n" in line or b"\r" in line or line.lstrip()[:1] != b"{":
        return set()
    return {
        key_of(message["id"])
        for message in messages_in(line)
        if isinstance(message.get("method"), str)
        and "id" in message
        and not is_open_ended(message)
        and message["method"] != "initialize"
    }
