"""The authorities whose certificates the clients of tests trust by themselves.

Who speaks TLS in a test names its own. A bundle of all authorities takes as long to read as the
rest of many a test.
"""

import os
from pathlib import Path

_NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

_USUAL = "USUAL_"
"""Before the names of what was there before: a worker of pytest-xdist inherits what was set."""


def trust_nobody() -> None:
    """Trust one authority, of whose key there is no copy, here and in all that is started."""
    kit = Path(__file__).parent
    for name, value in zip(_NAMES, (kit / "nobody.pem", kit), strict=True):
        os.environ.setdefault(_USUAL + name, os.environ.get(name, ""))
        os.environ[name] = str(value)


def trust_as_usual() -> None:
    """Trust those of the machine again: for what is asked of a package registry."""
    for name in _NAMES:
        usual = os.environ.get(_USUAL + name, "")
        if usual:
            os.environ[name] = usual
        else:
            os.environ.pop(name, None)
