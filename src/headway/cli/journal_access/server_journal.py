"""The journal that a server has where none is named: a file in the user's data directory."""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

from headway.errors import SetupError


def own_directory(identity: str) -> Path:
    """Return the server's own directory, by its `identity`, in the user's data directory.

    Two servers never share one by accident: its name has a hash of the whole identity.
    """
    base = os.environ.get("XDG_DATA_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(identity).name).strip("-")[:40]
    return home / "headway" / f"{readable}-{digest}"


def own_journal(identity: str, *, stdio: bool = False) -> str:
    """Return the URL of the server's own SQLite journal, whose directory is made where it is
    missing.

    Over a pipe it is `memory:`. There a client and its server end together: nobody could come
    back for a session or a result. And one desktop client may start any number of copies, in
    places where nothing can be written.

    Raises:
        SetupError: The directory cannot be made.
    """
    if stdio:
        return "memory:"
    directory = own_directory(identity)
    try:
        # Results of tools are nobody else's to read.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot make {directory} for the journal ({error.strerror}); "
            "choose a place with --journal"
        ) from error
    return "sqlite:///" + quote(str(directory / "journal.db"))
