"""What tests of the deployment need of a machine, and may miss."""

import os

import pytest


def needs(found: object, name: str) -> None:
    """Skip the test where `name` is not there; `make deploy-test` brings it, and never skips."""
    if not found and os.environ.get("HEADWAY_DEPLOY_TEST"):
        pytest.fail(f"{name} is not on this machine")
    if not found:
        pytest.skip(f"{name} is not on this machine; `make deploy-test` brings it")
