"""Python programs without the second that their imports take: forked, where that shows nothing.

`fork_programs` replaces `subprocess.Popen`, on which asyncio's processes and everybody else's are
built too. A program that is `python -m module …`, `python file.py …` or `python -P -c code` is then
forked from a process that has imported everything (`zygote`); all else is started as ever. What
differs: modules are imported already, hashes have one seed, and memory is shared with the zygote.
Tests in whose matter that is are marked `real_start`. Only on Linux, which lets a process adopt
orphans.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.kit.contexts import CONFIG, COUNTED_ALONE

ROOT = Path(__file__).parents[2]

PR_SET_CHILD_SUBREAPER = 36

SAME = {
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_PRELOAD",
    "PYTHONHASHSEED",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
    "TZ",
}
"""Variables that Python reads once, when it starts, and that a forked program would not."""

_started = subprocess.Popen


class Zygote:
    """The process to fork from, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._env = dict(os.environ)
        self.refusal = ""
        """Why no program may be started at the moment, if so."""

    def can_become(self, command: Any, env: Mapping[str, str] | None) -> bool:
        """Return whether that program can be had by forking."""
        if (
            not isinstance(command, list | tuple)
            or len(command) < 2
            or command[0] != sys.executable
        ):
            return False
        is_safe = command[1] == "-P"
        program = list(command[2:] if is_safe else command[1:])
        # Code with `-P` is what `in_process` starts; other code is about what it imports itself.
        if not (
            program[:1] == ["-m"]
            or str(program[:1]).endswith(".py']")
            or (is_safe and program[:1] == ["-c"])
        ):
            return False
        wanted = os.environ if env is None else env
        return _read_at_start(wanted) == _read_at_start(self._env)

    def become(
        self,
        command: list[str],
        descriptors: list[int],
        *,
        cwd: str | None,
        env: Mapping[str, str] | None,
        session: bool,
    ) -> int:
        """Have that program started as a child of this process; return its process id."""
        request = json.dumps(
            {
                "argv": [word for word in command[1:3] if word != "-P"] + list(command[3:]),
                "safe": command[1] == "-P",
                "cwd": cwd or os.getcwd(),  # noqa: PTH109
                "env": dict(os.environ if env is None else env),
                "session": session,
                "counted": os.environ.get(CONFIG),
            }
        ).encode()
        with self._lock:
            asked = self._socket or self._start()
            self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(asked, [request], descriptors)
                pid, adopted = asked.recv(64), asked.recv(64)
            finally:
                self._libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            assert adopted == b"adopted", f"the zygote is gone: {pid!r} {adopted!r}"
        return int(pid)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, size, 2**20)
        with theirs:
            command = [sys.executable, "-m", "tests.kit.zygote", str(theirs.fileno())]
            # Programs are counted from where they begin: counting before and between them is dear.
            renamed = {CONFIG: COUNTED_ALONE}
            env = {renamed.get(name, name): value for name, value in self._env.items()}
            self._process = _started(
                command, cwd=ROOT, env=env, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._socket = ours
        return ours

    def close(self) -> None:
        """End it; the programs go on."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.wait()


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    said = {name: value for name, value in env.items() if name in SAME}
    # Without any, Python takes UTF-8 too (PEP 538).
    return {name: value for name, value in said.items() if value not in ("C.UTF-8", "")}


@contextmanager
def fork_programs() -> Iterator[Zygote]:
    """Have Python programs forked while this is open."""
    zygote = Zygote()

    class ForkedPopen(subprocess.Popen):  # type: ignore[type-arg]
        """A process that may have been forked."""

        def _execute_child(self, *given: Any) -> None:
            if zygote.refusal:
                raise AssertionError(zygote.refusal)
            # The order of the parameters is the same in Python 3.11 to 3.14.
            (args, executable, preexec, _close, pass_fds, cwd, env, _info, _flags, shell) = given[
                :10
            ]
            pipes = given[10:16]
            _restore, gid, gids, uid, umask, session, group = given[16:23]
            special = (executable, preexec, pass_fds, shell, gid, gids, uid)
            if any(special) or umask >= 0 or group >= 0 or not zygote.can_become(args, env):
                super()._execute_child(*given)  # type: ignore[misc]
                return
            inputs, outputs, errors = pipes[0], pipes[3], pipes[5]
            standard = [
                one if one >= 0 else number for number, one in enumerate((inputs, outputs, errors))
            ]
            folder = None if cwd is None else os.fspath(cwd)
            self.pid = zygote.become(args, standard, cwd=folder, env=env, session=session)
            self._child_created = True
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    subprocess.Popen = ForkedPopen
    try:
        yield zygote
    finally:
        subprocess.Popen = _started
        with suppress(OSError):
            zygote.close()


@contextmanager
def start_programs() -> Iterator[None]:
    """Have every program started for real while this is open."""
    forked, subprocess.Popen = subprocess.Popen, _started
    try:
        yield
    finally:
        subprocess.Popen = forked
