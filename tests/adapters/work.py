"""What tests have done in another process."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headway import log, part, report, stage, track

forever = 600.0


def add(one: int, other: int = 1) -> int:
    return one + other


def whoami() -> tuple[int, int, str]:
    return os.getpid(), os.getsid(0), sys.stdin.read()


def say_all() -> str:
    with stage("Count", weight=2):
        for number in track(range(3)):
            part({"number": number})
            log(f"did {number}", "warning", logger="work")
    report(1, 1, "over \udcff")
    return "said"


def count(items: int) -> int:
    return sum(1 for _ in track(range(items)))


def reports(number: int) -> None:
    for value in range(number + 1):
        report(value, number)


def pause_after_two_reports(flag: str) -> None:
    report(1, 9, "one")
    report(5, 9, "five")
    while not Path(flag).exists():
        time.sleep(0.01)


def print_and_go_on() -> str:
    print("on Python's stdout")  # noqa: T201 - what libraries do
    os.write(1, b"on the descriptor\n")
    subprocess.run([sys.executable, "-c", "print('a child of it')"], check=True)
    return "ok"


def flood(parts: int) -> int:
    for number in range(parts):
        part("x" * 1000)
        part(number)
    return parts


def echo(value: Any) -> Any:
    return value


def fail(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)


class Picky(ValueError):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def fail_picky() -> None:
    raise Picky("this", "that")


def unsendable() -> Any:
    return lambda: None


def leave(code: int) -> None:
    part("last words")
    os._exit(code)


def crash() -> None:
    ctypes.string_at(0)


def fork_and_die(pid_file: str) -> None:
    """Leaves a process behind that holds its pipes."""
    child = os.fork()
    if child:
        Path(pid_file).write_text(str(child))
        os._exit(7)
    time.sleep(forever)


def with_a_child() -> None:
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({forever})"])
    part({"pid": os.getpid(), "child": child.pid})
    while True:
        sum(range(100_000))


def leave_a_thread() -> int:
    def go_on() -> None:
        while True:
            report(99, 100, "from a thread that nobody waits for")
            time.sleep(0.001)

    from contextvars import copy_context

    threading.Thread(target=copy_context().run, args=(go_on,), daemon=True).start()
    return os.getpid()


async def asynchronous() -> None: ...


def generating() -> Any:
    yield 1


def say_in_a_pool() -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(part, [1, 2, 3]))
