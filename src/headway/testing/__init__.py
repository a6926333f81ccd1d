"""For tests of tools, of servers and of journal backends.

| module | what is in it |
|---|---|
| `tool_runs` | `run_tool`: call a tool without a server; `record`: what functions give out |
| `outcome` | the outcome of a call, as plain values; `ToolRunFailed` |
| `fake_clock` | `FakeClock`: time to turn by hand |
| `journal_contract` | `check_journal`: what every journal backend keeps |
| `proxy` | `Proxy`: a connection to any server that is cut, late, buffered or slow on demand |
| `cuts` | where a `Proxy` cuts, how, and in what manner it passes on |
| `server_process` | `ServerProcess`: a server to be killed, stopped and started again |

Nothing here knows a test framework: what does not hold raises `AssertionError`.
"""

from headway.testing.cuts import Counts, Cut, Manner
from headway.testing.fake_clock import FakeClock
from headway.testing.journal_contract import CLAUSES, Clause, check_clause, check_journal
from headway.testing.outcome import Logged, Outcome, Reported, Said, ToolRunFailed
from headway.testing.proxy import Proxy, ProxyConnection
from headway.testing.server_process import Held, NotReady, ServerProcess, free_port
from headway.testing.tool_runs import Answers, record, run_tool

__all__ = [
    "CLAUSES",
    "Answers",
    "Clause",
    "Counts",
    "Cut",
    "FakeClock",
    "Held",
    "Logged",
    "Manner",
    "NotReady",
    "Outcome",
    "Proxy",
    "ProxyConnection",
    "Reported",
    "Said",
    "ServerProcess",
    "ToolRunFailed",
    "check_clause",
    "check_journal",
    "free_port",
    "record",
    "run_tool",
]
