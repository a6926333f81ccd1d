"""The names that `import headway` offers."""

import subprocess
import sys

import pytest

import headway
import headway.api


def test_the_public_names_are_sorted_complete_and_there():
    assert sorted(headway.__all__) == headway.__all__
    for name in headway.__all__:
        assert getattr(headway, name) is not None


def test_every_public_name_is_in_the_module_that_it_is_taken_from():
    assert set(headway._MODULES) | set(headway.api.__all__) == set(headway.__all__)
    assert set(headway._MODULES).isdisjoint(headway.api.__all__)


def test_the_public_names_are_listed_before_anything_is_imported():
    """Names are imported when they are asked for; an editor and `help` ask for the list."""
    code = "import headway; print(*dir(headway))"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(headway.__all__) <= set(listed.stdout.split())


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="has no attribute 'tool'"):
        _ = headway.tool
