"""A `headway` process on a terminal of its own, seen and typed at as a person does."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.waits import PATIENCE

PROGRAM = str(Path(__file__).with_name("on_a_terminal.py"))


class Terminal:
    def __init__(
        self, *args: str, home: Path, columns: int = 120, env: dict[str, str] | None = None
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY_")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", PROGRAM, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=kept
            | {"XDG_DATA_HOME": str(home), "TERM": "xterm", "COLUMNS": str(columns)}
            | (env or {}),
        )
        os.close(slave)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        assert ready, f"nothing more on the screen: {self.shown}"
        try:
            chunk = os.read(self._master, 65536)
        except OSError:  # Linux's end of file for a terminal whose process is gone
            return False
        self.shown += chunk.decode(errors="replace")
        return bool(chunk)

    def wait_for(self, text: str) -> None:
        while text not in self.shown:
            assert self._read(), f"ended without {text!r}: {self.shown}"

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def finish(self) -> int:
        while self._read():
            pass
        return self._process.wait(timeout=PATIENCE)
