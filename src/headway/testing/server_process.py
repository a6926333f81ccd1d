"""A server in a process of its own, to be killed, stopped and started again.

```python
command = [sys.executable, "-m", "headway", "run", "server.py:mcp", "--port", "{port}"]
async with ServerProcess(command) as server:
    ...                 # clients of server.origin
    await server.kill()
    await server.start()
```
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

READY_TIMEOUT = 30.0
"""Seconds that a server may take to be ready, or to end; machines that test are busy."""

POLL = 0.01
"""Seconds between two looks at whether a server is ready."""

LAST_OUTPUT_TIMEOUT = 2.0
"""Seconds that stderr is read after the end of a process: a daemon that it left behind may hold
that pipe for ever."""

KEPT_LINES = 10_000
"""Lines of a server's stderr that are kept."""

_LOWEST_PORT = 20_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class NotReady(Exception):
    """A server that did not come up, or did not end; the text has the end of its stderr."""


@dataclass(frozen=True)
class Held:
    """The resources that a process holds."""

    descriptors: int
    threads: int
    children: int
    """Its children, and their children."""
    memory: int
    """Bytes of memory that are its own and in use (RSS)."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that no connection is given by itself.

    A port of the range from which the system serves clients will not do for a server that is
    started again: while it is away, another connection may be given it, even the one that is
    trying to reach it.
    """
    with suppress(OSError, ValueError):
        ports = range(_LOWEST_PORT, int(_EPHEMERAL.read_text().split()[0]))
        # Not as seeded by a test runner: tests side by side would all be given the same one.
        for port in random.SystemRandom().sample(ports, min(100, len(ports))):
            if _is_free(port):
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServerProcess:
    """A server process, and those that follow it on the same port with the same command.

    `{port}` in the command and in the values of `env` is replaced by the port: a free one, unless
    `port` says which. `ready` is the path that answers 200 when the server can be used; with None
    the server is ready when it takes connections. `env` is added to the environment of this
    process.

    Leaving the context ends the server and every process that it left behind, except daemons that
    began a session of their own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int | None = None,
        ready: str | None = "/readyz",
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        patience: float = READY_TIMEOUT,
    ) -> None:
        self.port = port or free_port()
        filled = [part.replace("{port}", str(self.port)) for part in command]
        added = {name: text.replace("{port}", str(self.port)) for name, text in (env or {}).items()}
        self.command = tuple(filled)
        self.starts = 0
        """Number of processes that were started."""
        self._env = {**os.environ, **added}
        self._cwd = cwd
        self._ready = ready
        self._patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._reader: threading.Thread | None = None
        self._groups: list[int] = []

    @property
    def origin(self) -> str:
        """`http://host:port` of the server, whether it runs or not."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Return the id of the process, also of one that has ended."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Return whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def stderr(self) -> str:
        """Return the last 10,000 lines that its processes have written to stderr."""
        return "".join(self._lines)

    async def start(self) -> None:
        """Start the process and wait until it is ready.

        Raises:
            NotReady: It ended instead, or took longer than `patience`.
        """
        self.spawn()
        await self.wait_ready()

    def spawn(self) -> None:
        """Start the process, and do not wait."""
        assert not self.is_running, "it is running"
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=self._cwd,
            env=self._env,
            start_new_session=True,  # a group of its own, by which its children are found
        )
        self.starts += 1
        self._groups.append(self._process.pid)
        pipe = self._process.stderr
        assert pipe is not None
        self._reader = threading.Thread(target=self._read_output, args=(pipe,), daemon=True)
        self._reader.start()

    async def wait_ready(self) -> None:
        """Wait until the server can be used.

        Raises:
            NotReady: It ended instead, or took longer than `patience`.
        """
        until = time.monotonic() + self._patience
        while not await self._is_answering():
            if not self.is_running:
                await asyncio.to_thread(self._heard_out)
                raise NotReady(f"the server ended with {self._exit_code()}: {self._last_words()}")
            if time.monotonic() > until:
                raise NotReady(f"not ready after {self._patience:g} s: {self._last_words()}")
            await asyncio.sleep(POLL)

    async def kill(self) -> None:
        """Kill the process, as the system does when memory is short.

        Its children are not touched.
        """
        self._signal_group(signal.SIGKILL)
        await self.ended()

    async def terminate(self) -> int:
        """Tell the process to stop, wait until it has ended, and return its exit code.

        Raises:
            NotReady: It did not end within `patience`.
        """
        self._signal_group(signal.SIGTERM)
        return await self.ended()

    async def restart(self) -> int:
        """Tell the process to stop and start the next one; returns the exit code of the first."""
        code = await self.terminate()
        await self.start()
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, and do not wait."""
        self._signal_group(number)

    async def ended(self) -> int:
        """Wait until the process has ended by itself, and return its exit code.

        Raises:
            NotReady: It did not within `patience`.
        """
        assert self._process is not None, "it was not started"
        try:
            code = await asyncio.to_thread(self._process.wait, self._patience)
        except subprocess.TimeoutExpired:
            what = f"the server did not end within {self._patience:g} s"
            raise NotReady(f"{what}: {self._last_words()}") from None
        # A group that is empty is forgotten: its number may become somebody else's.
        self._groups = [group for group in self._groups if _has_members(group)]
        if not self._groups:
            await asyncio.to_thread(self._heard_out)
        return code

    def held(self) -> Held:
        """Return the resources that the process holds at the moment. Linux only.

        Raises:
            OSError: It has ended, or the system does not say.
        """
        place = Path("/proc", str(self.pid))
        lines = (place / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        return Held(
            descriptors=sum(1 for _ in (place / "fd").iterdir()),
            threads=int(status["Threads"]),
            children=len(_find_descendants(self.pid)),
            memory=int(status["VmRSS"].split()[0]) * 1024,
        )

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and every process of its group, at once."""
        for group in self._groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self._groups.clear()
        if self._process is not None:
            self._process.wait()
            self._heard_out()

    def _signal_group(self, number: int) -> None:
        assert self._process is not None, "it was not started"
        self._process.send_signal(number)

    async def _is_answering(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            if self._ready is None:
                return True
            head = f"GET {self._ready} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode())
            async with asyncio.timeout(self._patience):
                return (await reader.readline()).split()[1:2] == [b"200"]
        except (OSError, TimeoutError):
            return False
        finally:
            writer.transport.abort()

    def _read_output(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._lines.append(line)
                if len(self._lines) > KEPT_LINES:
                    del self._lines[: KEPT_LINES // 10]

    def _heard_out(self) -> None:
        if self._reader is not None:
            self._reader.join(LAST_OUTPUT_TIMEOUT)

    def _exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def _last_words(self) -> str:
        return self.stderr.strip()[-1000:] or "it said nothing"


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _find_descendants(pid: int) -> list[int]:
    """Return the living descendants of a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            # The name of the program, in brackets, may hold anything.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if entry.name.isdigit() and state != "Z":
                parents.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found
