"""What Headway adds to a served object: methods that its author left out, and more in some results.

An addition is made to the result as it goes to the client, behind the author's handlers and
middleware: whatever shape they returned it in, they see what is theirs.
"""

from functools import partial
from typing import Any

from mcp.server.lowlevel import Server

from headway import capabilities, handles, levels, prompts, resources, tasks
from headway.engine import Engine
from headway.transport.kernel import Addition


def equip(low: Server[Any], *, publishes: bool, may_list: bool, is_bare: bool) -> None:
    """Have a server answer for what Headway makes work.

    `publishes`: what changes is published, where Headway hears of it. `may_list`: its handlers can
    list without its middleware. `is_bare`: its prompts' errors are the SDK's words.
    """
    levels.equip(low, publishes=publishes)
    resources.equip(low)
    tasks.equip(low)
    handles.equip(low)
    if may_list:
        prompts.equip(low, is_bare=is_bare)


def to_results(
    low: Server[Any], engine: Engine, *, publishes: bool, lists_runs: bool
) -> dict[str, Addition]:
    """What is added to results, by their methods; `lists_runs`: to the resource templates too."""
    says = partial(capabilities.as_served, low, engine, publishes=publishes)
    added: dict[str, Addition] = {
        "initialize": says,
        "server/discover": says,
        "tools/list": partial(handles.list_tools, low, engine),
    }
    if lists_runs:
        added["resources/templates/list"] = resources.list_templates
    return added
