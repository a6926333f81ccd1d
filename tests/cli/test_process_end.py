"""How a process ends once it was told to."""

import os
import threading

import pytest
from tests.kit.waits import PATIENCE

from headway.cli.server.process_end import exit_at_once


class SavedExit(Exception):
    """What stands for the end of the process."""


def test_one_thread_ends_the_process(monkeypatch: pytest.MonkeyPatch):
    """coverage.py saves its data in `os._exit`, and crashes where two threads do."""
    inside, together = threading.Semaphore(0), list[int]()
    may_end = threading.Event()
    running = list[int]()

    def save_and_exit(code: int) -> None:
        running.append(code)
        together.append(len(running))
        inside.release()
        may_end.wait(PATIENCE)
        running.remove(code)
        raise SavedExit

    def end(code: int) -> None:
        with pytest.raises(SavedExit):
            exit_at_once(code)

    monkeypatch.setattr(os, "_exit", save_and_exit)
    threads = [threading.Thread(target=end, args=(code,)) for code in (0, 1)]
    for thread in threads:
        thread.start()
    assert inside.acquire(timeout=PATIENCE)
    # The other one comes in at once, or never.
    assert not inside.acquire(timeout=0.2)
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert together == [1, 1]
