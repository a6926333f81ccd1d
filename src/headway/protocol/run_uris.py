"""The URIs under which runs are resources: `headway://runs/<id>`."""

from typing import Final

RUNS: Final = "headway://runs/"

RESULT: Final = "/result"

TEMPLATE: Final = RUNS + "{id}"

META_KEY: Final = "headway/run"
"""The key in `_meta` of a part's notification for the URI of its run."""


REFERENCE_KEY: Final = "headway/reference"
"""In `_meta` of a tool's error: the reference of the run, by which an operator finds it."""


def uri_of(run_id: str) -> str:
    """Return the URI of a run."""
    return RUNS + run_id


def result_uri_of(run_id: str) -> str:
    """Return the URI of a result that was too large for an answer."""
    return RUNS + run_id + RESULT


def run_whose_result(uri: object) -> str | None:
    """Return the run whose result a URI names, or None when it names something else."""
    if isinstance(uri, str) and uri.endswith(RESULT):
        return run_of(uri.removesuffix(RESULT))
    return None


def run_of(uri: object) -> str | None:
    """Return the run that a URI names, or None when it names something else."""
    if isinstance(uri, str) and uri.startswith(RUNS) and "/" not in uri[len(RUNS) :]:
        return uri[len(RUNS) :] or None
    return None
