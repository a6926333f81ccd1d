"""The processes of a benchmark: each started here, held to its core, and ended by its id."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import msgspec

from bench.jobs import AnyJob, Outcome

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
PINNED = len(CORES) > 1


class NotServing(Exception):
    """A server did not come up, or the load generator did not answer."""


def pin(pid: int, *cores: int) -> None:
    """Hold a process to cores, where the system can and there is more than one."""
    if PINNED and sys.platform == "linux":
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, cores)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for one that stays."""
    process.terminate()
    try:
        process.wait(4)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(4)


class ServerProcess:
    """A running server; `{port}` and `{directory}` in its command are filled in."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.port = free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="headway-bench-")
        self._log: IO[bytes] = (Path(self._directory.name) / "log").open("w+b")
        filled = [part.format(port=self.port, directory=self._directory.name) for part in command]
        self.spawned = time.perf_counter()
        self._process = subprocess.Popen(
            filled, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self.pid = self._process.pid
        pin(self.pid, SERVER_CORE)

    def first_answer(self, request: bytes, timeout: float = 20.0) -> float:
        """Seconds from spawning to the first successful answer to a request.

        Raises:
            NotServing: There was none in time, or the process ended.
        """
        while time.perf_counter() - self.spawned < timeout and self._process.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout) as client,
            ):
                client.sendall(request)
                if client.recv(65_536).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - self.spawned
            time.sleep(0.002)
        status = self._process.poll()
        how = f"no answer within {timeout:.0f} s" if status is None else f"it ended with {status}"
        raise NotServing(f"{how}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what the process printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-400:] or "it printed nothing"

    def stop(self) -> None:
        """End the process and remove its directory."""
        end(self._process)
        self._log.close()
        self._directory.cleanup()


class LoadProcess:
    """The load generator."""

    def __init__(self) -> None:
        self._process = self._start()

    def perform(self, job: AnyJob) -> Outcome:
        """What came of a job. A generator that hangs is ended, and another one started."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(job) + b"\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], job.timeout + 10)
        line = stdout.readline() if ready else b""
        if line:
            return msgspec.json.decode(line, type=Outcome)
        self.stop()
        self._process = self._start()
        return Outcome(error="the load generator hung or died")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """End the generator."""
        end(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        pin(process.pid, LOAD_CORE)
        return process
