"""pytest-xdist runs all tests of a group in one process, which shares its fixtures. Some versions ignore the groups."""

from __future__ import annotations

import os

import pytest


def test_the_tests_of_a_module_run_in_one_process(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@test_grouping"), "tests/conftest.py marks the group; xdist ignored it"
    assert request.node.get_closest_marker("xdist_group").args == ("test_grouping",)
