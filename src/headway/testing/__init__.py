"""For tests of tools, of servers and of journal backends.

| module | what is in it |
|---|---|
| `tools` | `run_tool`: call a tool without a server; `record`: hear what a function says |
| `outcome` | what came of a call, as plain values |
| `clock` | `FakeClock`: time to turn by hand |
| `contract` | `check_journal`: what every journal backend keeps |

Nothing here knows a test framework: what does not hold raises `AssertionError`.
"""

from headway.testing.clock import FakeClock
from headway.testing.contract import CLAUSES, Clause, check_clause, check_journal
from headway.testing.outcome import Logged, Outcome, Reported, Said
from headway.testing.tools import Answers, record, run_tool

__all__ = [
    "CLAUSES",
    "Answers",
    "Clause",
    "FakeClock",
    "Logged",
    "Outcome",
    "Reported",
    "Said",
    "check_clause",
    "check_journal",
    "record",
    "run_tool",
]
