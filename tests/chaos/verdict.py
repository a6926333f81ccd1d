"""What must hold when all is over: callers, the ledger and the journal tell the same story."""

import re
from collections import Counter
from pathlib import Path

from tests.chaos.ledger import Line
from tests.chaos.saboteur import TOOLS as SABOTAGE
from tests.chaos.tally import Call, Tally

from headway.journal import open_journal

RESTARTING = {"anew", "anew_threaded", "counted", "tasked_anew", "handed_anew"}
CHECKPOINTED = {"counted", "handed_anew"}

STORED_AFTER = 1.0
"""Seconds after its end by which a result must be beyond the reach of any crash."""


def judge_calls(tally: Tally, ledger: dict[str, list[Line]]) -> None:
    """Compare how each call ended for its callers with what was really done."""
    answered: dict[str, set[tuple[str, str, str]]] = {}
    for call in tally.calls:
        tally.count(f"ended: {call.ended or 'never'}")
        if call.ended is None:
            tally.violation("a call never ended", call)
            continue
        if call.key is not None:
            answered.setdefault(call.key, set()).add(call.outcome)
        lines = ledger.get(call.job, [])
        _executions(tally, call, lines)
        if call.ended == "result":
            _whole(tally, call, lines)
        else:
            _rightly_without(tally, call, lines)
    for key, outcomes in answered.items():
        if len(outcomes) > 1:
            tally.violation(f"callers with the key {key} were answered differently: {outcomes}")


def _executions(tally: Tally, call: Call, lines: list[Line]) -> None:
    begins = [line for line in lines if line.what == "begin"]
    tally.count("executions", len(begins))
    if call.tool not in RESTARTING:
        if len(begins) > 1:
            tally.violation(f"executed {len(begins)} times", call)
        return
    tally.count("restarts", max(0, len(begins) - 1))
    for pid, times in Counter(line.pid for line in begins).items():
        if times > 1:
            tally.violation(f"executed {times} times in process {pid}", call)
    _never_again(tally, call, lines)


def _never_again(tally: Tally, call: Call, lines: list[Line]) -> None:
    """What was checkpointed is not done again."""
    kept: set[int] = set()
    done: Counter[int] = Counter()
    for line in lines:
        if line.what == "kept":
            kept.add(line.number)
        if line.what == "step":
            done[line.number] += 1
            if line.number in kept:
                tally.violation(f"item {line.number} was done again behind its checkpoint", call)
        if line.what == "again":
            tally.violation(f"item {line.number} came again behind its checkpoint", call)
    if call.tool in CHECKPOINTED:
        tally.count("items", sum(done.values()))
        tally.count("items done twice, not checkpointed yet", sum(n - 1 for n in done.values()))


def _whole(tally: Tally, call: Call, lines: list[Line]) -> None:
    """A result came of an execution that did everything."""
    own = [line for line in lines if line.nonce == call.nonce]
    if not any(line.what == "end" for line in own):
        tally.violation("a result without an end", call)
    counts = lines if call.tool in CHECKPOINTED else own
    done = {line.number for line in counts if line.what == "step"}
    if done != set(range(1, call.steps + 1)):
        tally.violation(f"a result with {len(done)} of {call.steps} steps", call)


def _rightly_without(tally: Tally, call: Call, lines: list[Line]) -> None:
    """There is a reason for an end without a result, and no result to be had."""
    if call.ended == "interrupted":
        if not any(call.began - 5 < death.at < call.over for death in tally.deaths):
            tally.violation("interrupted, but no process ended", call)
        _no_result_lost(tally, call, lines)
    elif call.ended == "cancelled" and not call.kind.startswith("2026"):
        tally.violation(f"cancelled by nobody: {call.error}", call)


def _no_result_lost(tally: Tally, call: Call, lines: list[Line]) -> None:
    for line in lines:
        if line.what != "end":
            continue
        ends = [death.at for death in tally.deaths if death.pid == line.pid]
        if line.at > call.over - STORED_AFTER:
            # A worker hears a moment later that whoever asked was told to stop.
            tally.count("results that came as their caller was told of an end")
        elif not ends or ends[0] - line.at > STORED_AFTER:
            tally.violation("a result was lost", call)
        else:
            tally.count("results that died with their process before they were stored")


async def judge_journal(tally: Tally, url: str) -> None:
    """Nothing is left open in the journal."""
    async with open_journal(url) as journal:
        runs = await journal.streams("run/", unfinished=True)
        if runs:
            tally.violation(f"{len(runs)} runs have no end in the journal: {runs[:3]}")
        sessions = await journal.streams("session/", unfinished=True)
        # Whoever lost the answer to its handshake never learned the session's name.
        if len(sessions) > tally.counts["handshakes lost"]:
            tally.violation(f"{len(sessions)} sessions are open in the journal")
        tally.count("streams in the journal", len(await journal.streams()))


_RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)
"""Where a record of the log begins; tracebacks are indented."""


def _is_expected(record: str) -> bool:
    return any(f"tool '{tool}'" in record.partition("\n")[0] for tool in SABOTAGE)


def judge_log(tally: Tally, log: str) -> None:
    """The server had nothing to complain of, but for the tools of the saboteur."""
    log = "".join(record for record in _RECORD.split(log) if not _is_expected(record))
    for words in ("Traceback", "never retrieved", " ERROR ", "Internal server error"):
        times = log.count(words)
        if times:
            tally.violation(f"{times} times {words!r} in the server's log")


def save(log: str, place: Path) -> Path:
    """Keep the server's log for whoever wants to look."""
    path = place / "server.log"
    path.write_text(log)
    return path
