"""What all tests have: one kind of event loop, programs that are forked, and groups."""

import gc
import signal
from collections.abc import Generator
from contextlib import ExitStack, nullcontext

import pytest
from hypothesis import HealthCheck, settings
from tests.kit.contexts import count_for, count_nothing
from tests.kit.forking import Zygote, fork_programs, start_programs
from tests.kit.groups import GROUPS, STARTING, groups_of
from tests.kit.loops import name_makers
from tests.kit.trust import trust_nobody

LONGEST_FIRST = ("docs", "faults", "processes")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_ZYGOTE = pytest.StashKey[Zygote]()

pytest_plugins = ["tests.kit.fixtures"]


def heed_signals() -> None:
    """End at every signal that ends a process: under `nohup`, or in the background of a script, the
    programs that the tests start would inherit that some are ignored."""
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what CI says, which has no time to count everything."""
    parser.addoption(
        "--count-less",
        action="store_true",
        help="count nothing of the tests of `adds_nothing`",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the groups, and fork what the tests start from now on."""
    heed_signals()
    trust_nobody()
    # How long an example takes says how busy the machine is.
    settings.register_profile(
        "headway", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("headway")
    name_makers()
    for group, meaning in GROUPS.items():
        config.addinivalue_line("markers", f"{group}: {meaning}")
    forked = ExitStack()
    config.stash[_ZYGOTE] = forked.enter_context(fork_programs())
    config.add_cleanup(forked.close)


def pytest_collection() -> None:
    """Nothing that is imported or collected goes away again: do not look for what did."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what it starts, and have those first that start something: they wait.

    The first of all are the longest, so that none of them is begun last. One process of pytest has
    all of these at first; the others come for theirs when they have done what only computes.
    """
    for item in items:
        for group in groups_of(item):
            item.add_marker(group)
    items.sort(key=lambda item: [item.get_closest_marker(group) is None for group in LONGEST_FIRST])


def pytest_collection_finish() -> None:
    """What was imported stays: a collection of garbage need not go through it each time.

    And it need not come as often as in a program that lasts: it took a tenth of the tests' time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the groups against what the tests do, and count their coverage for their file."""
    if item.config.getoption("count_less") and item.get_closest_marker("adds_nothing"):
        count_nothing()
    else:
        count_for(item.nodeid.partition("::")[0])
    zygote = item.config.stash[_ZYGOTE]
    may = any(item.get_closest_marker(group) for group in STARTING)
    zygote.refusal = "" if may else f"{item.nodeid} starts a program and is in no group that does"
    handlers = {number: signal.getsignal(number) for number in ENDING}
    is_real = item.get_closest_marker("real_start") is not None
    try:
        with start_programs() if is_real and may else nullcontext():
            return (yield)
    finally:
        zygote.refusal = ""
        for number, handler in handlers.items():  # of a command that was executed in this process
            signal.signal(number, handler)


@pytest.fixture
def anyio_backend() -> str:
    """The only event loop Headway runs on."""
    return "asyncio"
