"""Files for their owner alone: they hold the requests of callers and their answers."""

import contextlib
import logging
import os
import stat
from functools import lru_cache
from pathlib import Path

logger = logging.getLogger(__name__)

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read and write, unless there is a file.

    SQLite gives `-wal`, `-shm` and `-journal` the mode of the file that they belong to. A file that
    exists is not touched: to open and close it here would take away the locks that SQLite holds on
    it. If no file can be created, the code that opens it reports why.
    """
    with contextlib.suppress(OSError):
        # Behind a link there may be nothing yet, and O_EXCL takes the link for a file.
        place = path.resolve()
        os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def warn_if_exposed(path: Path, what: str) -> None:
    """Log, once a process, when a file is not its owner's alone, or can be replaced by others."""
    for reason in find_exposures(path):
        _warn_once(f"{what} {reason}")


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def find_exposures(path: Path) -> list[str]:
    """Return the reasons why other users can read or replace a file; none on Windows."""
    if os.name != "posix":
        return []
    found: list[str] = []
    with contextlib.suppress(OSError):
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in (os.geteuid(), 0):  # root reads whatever it likes
            found.append(f"{path} belongs to another user (uid {status.st_uid}), who can read it")
        elif mode & _bits_of_others(status):
            found.append(
                f"{path} is open to other users of this machine (mode {mode:04o}); "
                f"close it with: chmod 600 {path}*"
            )
        directory = path.resolve().parent
        if _is_shared(directory.stat()):
            found.append(
                f"{path} is in {directory}, where other users may replace it; "
                "choose a directory that only this user may write"
            )
    return found


def _bits_of_others(status: os.stat_result) -> int:
    """Return the bits of a mode that let other users in.

    Root gives a file to a process by the process's group: so do the volumes of Kubernetes.
    """
    is_given = status.st_uid != os.geteuid() and status.st_gid in (os.getegid(), *os.getgroups())
    return OTHERS & ~stat.S_IRGRP if is_given else OTHERS


def _is_shared(directory: os.stat_result) -> bool:
    """Return whether users besides this one and root may replace files in a directory."""
    if directory.st_uid not in (os.geteuid(), 0):
        return True
    if directory.st_mode & stat.S_ISVTX:  # as /tmp: each replaces only what is his own
        return False
    # Many systems give each user a group of his own, and it the right to write.
    is_own_group = directory.st_gid == os.getegid()
    others = stat.S_IWOTH if is_own_group else stat.S_IWOTH | stat.S_IWGRP
    return bool(directory.st_mode & others)
