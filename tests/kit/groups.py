"""Groups of tests, by what a test starts; the only place where they are said.

A test belongs to a group by the fixtures it asks for, by what its code reaches, and by its folder.
`make test` runs those that are in no group, and the `smoke` tests: one of each kind of process, and
two of the matrix of clients.
"""

import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

import pytest

GROUPS = {
    "processes": "starts other programs, most of them Python",
    "redis": "needs a Redis or a Valkey",
    "clients": "holds servers against each client of other projects, in each era",
    "faults": "kills, cuts and stops servers",
    "docs": "runs what the documentation shows",
    "real_start": "starts commands as a shell does, not by forking",
    "smoke": "starts something, and is part of `make test` all the same",
    "adds_nothing": "does much, which reaches nothing of `src` that other tests do not reach",
}

STARTING = ("processes", "redis", "faults", "docs")
"""The groups whose tests may start programs."""

PLACES = {
    "tests/chaos": "faults",
    "tests/cli/test_call_outlasts": "faults",
    "tests/deploy": "faults",
    "tests/replicas/test_deploys": "faults",
    "tests/journal/test_redis_trouble": "faults",
    "tests/workers/test_failures": "faults",
    "tests/docs/test_pages": "docs",
    "tests/docs/test_readme": "docs",
    "tests/examples": "docs",
    "tests/field/test_one_object": "processes",
    "tests/fuzz": "processes",
    "tests/interop": "clients",
}

FIXTURES = {
    "programs": "processes",
    "served_example": "processes",
    "served_lasting": "processes",
    "certificates": "redis",
    "cluster_url": "redis",
    "redis": "redis",
    "encrypted redis": "redis",
    "redis_program": "redis",
    "redis_url": "redis",
    "valkey": "redis",
    "valkey_url": "redis",
}

STARTERS = frozenset(
    {
        "Popen", "Programs", "ServerProcess", "StdioServerParameters", "StdioTransport", "Terminal",
        "create_subprocess_exec", "in_process", "program", "stream_command", "subprocess",
    }
)  # fmt: skip
"""What starts a program, by the name that a test's code calls it."""

SMOKE = (
    "tests/adapters/test_process.py::test_it_returns_what_the_function_returns[asyncio]",
    "tests/cli/test_call.py::test_a_target_is_served_for_the_call",
    "tests/cli/test_run.py::test_run_says_where_the_server_is_and_answers_there",
    "tests/interop/test_matrix.py::test_a_call_is_answered",
    "tests/interop/test_matrix.py::test_progress_grows_to_its_total_and_says_what_is_done",
    "tests/replicas/test_sessions.py::test_every_request_of_a_session_may_go_to_another_replica",
    "tests/replicas/test_workers.py::test_sigterm_lets_the_calls_of_all_workers_finish",
    "tests/stdio/test_end.py::test_an_async_tool_is_cancelled[SIGTERM-2026]",
    "tests/workers/test_command.py::test_an_operator_sees_the_run_of_a_worker_once_and_stops_it[run]",
)
"""One test of each kind of process, started as a shell does it."""

REAL_STARTS = (
    *SMOKE,
    "tests/adapters/test_process.py::test_a_function_runs_in_another_process",
    "tests/adapters/test_process.py::test_no_process_outlives_its_parent",
    "tests/cli/test_run.py",
    "tests/docs",
    "tests/examples",
    "tests/field/test_names_of_files.py::test_files_beside_it",
    "tests/field/test_what_a_caller_sees.py::test_a_result_is_printed_whatever_the_encoding_of_stdout[ascii]",
    "tests/stdio/test_command_line.py::test_a_closed_standard_stream",
    "tests/stdio/test_command_line.py::test_nothing_is_left_in_the_home",
    "tests/stdio/test_command_line.py::test_the_end_of_stdin",
    "tests/stdio/test_command_line.py::test_what_cannot_start_says_why",
    "tests/stdio/test_command_line.py::test_what_needs_http_is_refused_in_a_sentence[--host",
    "tests/stdio/test_command_line.py::test_without_stderr",
)
"""What keeps the forked programs honest: the same commands, started for real."""

ADDS_NOTHING = (
    "tests/chaos/test_s",
    "tests/cli/test_metrics_of_workers",
    "tests/cli/test_run.py",
    "tests/docs",
    "tests/engine/test_lists",
    "tests/examples",
    "tests/field/test_names_of_files",
    "tests/field/test_what_a_caller_sees",
    "tests/hostile/test_encrypted_journal",
    "tests/interop/test_matrix",
    "tests/interop/test_resume",
    "tests/interop/test_same_answers",
    "tests/journal/test_redis_fleet",
    "tests/journal/test_redis_tls",
    "tests/journal/test_state_machine",
    "tests/replicas/test_deploys",
    "tests/replicas/test_workers",
    "tests/requirements",
    "tests/stdio/test_clients",
    "tests/stdio/test_command_line",
    "tests/stdio/test_under_fire",
    "tests/unit/test_progress_pacing",
    "tests/unit/test_protocol",
    "tests/wire/test_hostile_readers",
    "tests/workers/test_kinds",
)
"""Counting them takes a quarter of the time that counting takes, and finds about 50 of 40,000 lines
and branches that no other test reaches. `make coverage` counts them, and CI does not. Any file may
be taken out of this list."""


def groups_of(item: pytest.Item) -> set[str]:
    """Return the groups of a test."""
    path = item.nodeid
    found = {group for place, group in PLACES.items() if path.startswith(place)}
    fixtures: list[str] = getattr(item, "fixturenames", [])
    callspec = getattr(item, "callspec", None)
    chosen = () if callspec is None else tuple(map(str, callspec.params.values()))
    found |= {group for name, group in FIXTURES.items() if name in (*fixtures, *chosen)}
    function = getattr(item, "function", None)
    if function is not None and is_starting(inspect.unwrap(function)):
        found.add("processes")
    if path.startswith(SMOKE):
        found.add("smoke")
    if path.startswith(ADDS_NOTHING):
        found.add("adds_nothing")
    if path.startswith(REAL_STARTS):
        found.add("real_start")
    return found


@cache
def is_starting(function: Any) -> bool:
    """Whether the code of a test starts a program; asked once for all its parameters."""
    seen: set[Any] = set()
    waiting = [function]
    while waiting:
        each = waiting.pop()
        if each in seen or getattr(each, "__code__", None) is None:
            continue
        seen.add(each)
        names, called = _reached_from(each)
        if not STARTERS.isdisjoint(names):
            return True
        waiting += called
    return False


@cache
def _reached_from(function: Any) -> tuple[frozenset[str], list[Any]]:
    """The names that a function's own code uses, and the test code that it calls."""
    names, called = set[str](), list[Any]()
    for name in _names_of(function.__code__):
        value = function.__globals__.get(name)
        names.update((name, *_bases_of(value)))
        called += _test_code(value)
    return frozenset(names), called


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)


def _bases_of(value: Any) -> list[str]:
    return [base.__name__ for base in value.__mro__] if inspect.isclass(value) else []


def _test_code(value: Any) -> list[Any]:
    """The functions behind a name, where they are tests' own."""
    if not str(getattr(value, "__module__", "")).startswith("tests."):
        return []
    if inspect.isclass(value):
        return [inspect.unwrap(one) for one in vars(value).values() if inspect.isfunction(one)]
    return [inspect.unwrap(value)] if callable(value) else []
