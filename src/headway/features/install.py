"""Installation of what Headway adds to a served object: methods, and fields in some results.

An addition is made to the result as it goes to the client, after the author's handlers and
middleware, which see only their own result.
"""

from functools import partial
from typing import Any

from mcp.server.lowlevel import Server

from headway.engine import Engine
from headway.features import (
    capabilities,
    continue_run,
    idle_tracing,
    log_levels,
    prompt_errors,
    run_resources,
    task_methods,
)
from headway.transport.sdk import Addition


def install_features(low: Server[Any], *, publishes: bool, may_list: bool, is_bare: bool) -> None:
    """Let a server answer the methods that Headway implements.

    `publishes`: the server publishes changes on a bus, which Headway reads. `may_list`: its
    handlers can list without its middleware. `is_bare`: the errors of its prompts are worded by the
    SDK.
    """
    idle_tracing.install_idle_tracing(low)
    log_levels.install_log_levels(low, publishes=publishes)
    run_resources.install_run_resources(low)
    task_methods.install_task_methods(low)
    continue_run.install_continue_run(low)
    if may_list:
        prompt_errors.install_prompt_errors(low, is_bare=is_bare)


def to_results(
    low: Server[Any], engine: Engine, *, publishes: bool, lists_runs: bool
) -> dict[str, Addition]:
    """Return what is added to results, by method; `lists_runs`: to the templates too."""
    says = partial(capabilities.served_capabilities, low, engine, publishes=publishes)
    added: dict[str, Addition] = {
        "initialize": says,
        "server/discover": says,
        "tools/list": partial(continue_run.list_tools, low, engine),
    }
    if lists_runs:
        added["resources/templates/list"] = run_resources.list_templates
    return added
