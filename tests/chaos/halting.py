"""Tools of which only a stop brings the end: a query and a program, in a thread."""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from headway import Headway, on_cancel, report, shield

mcp = Headway("halting")

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
PROGRAM = [sys.executable, "-c", "import time; time.sleep(600)"]


def note(place: str, deed: str) -> None:
    with Path(place, "notes").open("a") as notes:
        notes.write(f"{deed}\n")


def year(place: str) -> None:
    """A query that never ends, beside a program that takes minutes."""
    program = subprocess.Popen(PROGRAM)
    Path(place, "pid").write_text(f"{program.pid}\n")
    database = sqlite3.connect(":memory:")
    with on_cancel(program.terminate), on_cancel(database.interrupt):
        note(place, "began")
        report(1)
        try:
            database.execute(ENDLESS).fetchone()
        except sqlite3.OperationalError:
            note(place, "query ended")
        program.wait()
        note(place, "program ended")
    report(2)
    note(place, "went on")


def payment(place: str) -> None:
    """What must be finished once it has begun; it is when there is a file `go`."""
    with on_cancel(lambda: note(place, "asked")), shield():
        note(place, "began")
        report(1)
        until = time.monotonic() + 60
        while not Path(place, "go").exists() and time.monotonic() < until:
            time.sleep(0.01)
        report(2)  # not refused in here
        note(place, "finished")
    report(3)
    note(place, "went on")


for name, tool in (("year", year), ("payment", payment)):
    mcp.add_tool(tool, name=name)
    mcp.add_tool(tool, name=f"{name}_task", hand_over="at once")
    mcp.add_tool(tool, name=f"{name}_in_time", timeout="1s")
