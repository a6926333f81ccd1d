"""The environment of this process, and the secrets in it that its children must not inherit.

A tool starts programs, and those inherit all of it: the password in the URL of a journal would be
theirs as well. What is a secret is taken out when the command line has been read, before anything
of the target is loaded. (Who may read `/proc/PID/environ` of this process can read it there.)
"""

import os
import re
from typing import Final

TOKEN: Final = "HEADWAY_TOKEN"
"""The access token of `tools` and `call`."""

_SECRET: Final = re.compile(r"HEADWAY_(JOURNAL|AUTH|\w*(TOKEN|SECRET|PASSWORD|PASSWD|KEY)\w*)")

_taken: dict[str, str] = {}


def take_secrets() -> None:
    """Take Headway's secrets out of the environment, for every program that is started from now."""
    for name in list(os.environ):
        if _SECRET.fullmatch(name):
            _taken[name] = os.environ.pop(name)


def for_ourselves() -> dict[str, str]:
    """Return the environment with the secrets, for another process of this very command."""
    return {**os.environ, **_taken}


def token() -> str | None:
    """Return the access token that the environment holds, or held."""
    return os.environ.get(TOKEN) or _taken.get(TOKEN)
