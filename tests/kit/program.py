"""A `headway` process under test: started, read line by line, and always ended."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.kit.waits import PATIENCE


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str


class Program:
    def __init__(self, *args: str, home: Path, cwd: Path, env: dict[str, str]) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY_")}
        self._process = subprocess.Popen(
            # -P: as the command `headway`, which imports nothing from where it is started.
            [sys.executable, "-P", "-m", "headway", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=kept | {"XDG_DATA_HOME": str(home)} | env,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._seen: dict[str, list[str]] = {"out": [], "err": []}
        self._lines: dict[str, queue.Queue[str | None]] = {
            "out": queue.Queue(), "err": queue.Queue()
        }  # fmt: skip
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe), daemon=True)
            for name, pipe in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self, name: str, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._seen[name].append(line)
                self._lines[name].put(line)
        self._lines[name].put(None)

    def wait_for(self, text: str) -> str:
        """The first unread line of stderr that has `text`."""
        return self._wait_for(text, "err")

    def wait_for_output(self, text: str) -> str:
        """The first unread line of stdout that has `text`."""
        return self._wait_for(text, "out")

    def _wait_for(self, text: str, name: str) -> str:
        while (line := self._lines[name].get(timeout=PATIENCE)) is not None:
            if text in line:
                return line.rstrip("\n")
        raise AssertionError(f"ended without {text!r}: {self._seen}")

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def finish(self, limit: float = PATIENCE) -> Finished:
        code = self._process.wait(timeout=limit)
        for reader in self._readers:
            reader.join(timeout=PATIENCE)
        return Finished(code, "".join(self._seen["out"]), "".join(self._seen["err"]))

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.finish()


class Programs:
    """Starts programs with a data directory of their own, and ends those that still run."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.cwd = directory
        self._started: list[Program] = []

    def start(self, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None):
        program = Program(*args, home=self.home, cwd=cwd or self.cwd, env=env or {})
        self._started.append(program)
        return program

    def run(self, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None):
        return self.start(*args, cwd=cwd, env=env).finish()

    def serve(self, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None):
        """A server that is ready, and its URL."""
        program = self.start(*args, cwd=cwd, env=env)
        line = program.wait_for("headway: serving ")
        return program, line.split(" at ")[1].split()[0]


@contextmanager
def programs_in(directory: Path) -> Iterator[Programs]:
    programs = Programs(directory)
    try:
        yield programs
    finally:
        for program in programs._started:
            program.end()
