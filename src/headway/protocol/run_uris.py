"""The URIs under which runs are resources: `headway://runs/<id>`."""

from typing import Final

RUNS: Final = "headway://runs/"

TEMPLATE: Final = RUNS + "{id}"

META_KEY: Final = "headway/run"
"""In `_meta` of a part's notification: the URI of the run it belongs to."""


def uri_of(run_id: str) -> str:
    """The URI of a run."""
    return RUNS + run_id


def run_of(uri: object) -> str | None:
    """The run a URI names, or None when it names something else."""
    if isinstance(uri, str) and uri.startswith(RUNS) and "/" not in uri[len(RUNS) :]:
        return uri[len(RUNS) :] or None
    return None
