"""The environment of this process, and the secrets in it that its children must not inherit.

A tool starts programs, and they inherit the whole environment: the password in the URL of a journal
too. So secrets are taken out when the command line has been read, before anything of the target is
loaded. (A user who may read `/proc/PID/environ` of this process can still read them there.)
"""

import os
import re
from typing import Final

TOKEN: Final = "HEADWAY_TOKEN"
"""The access token of `tools` and `call`."""

_SECRET: Final = re.compile(r"HEADWAY_(JOURNAL|AUTH|\w*(TOKEN|SECRET|PASSWORD|PASSWD|KEY)\w*)")

_taken: dict[str, str] = {}


def take_secrets() -> None:
    """Take Headway's secrets out of the environment, so that no program started later inherits
    them.
    """
    for name in list(os.environ):
        if _SECRET.fullmatch(name):
            _taken[name] = os.environ.pop(name)


def for_ourselves() -> dict[str, str]:
    """Return the environment with the secrets, for another process of this very command."""
    return {**os.environ, **_taken}


def token() -> str | None:
    """Return the access token that the environment holds, or held."""
    return os.environ.get(TOKEN) or _taken.get(TOKEN)
