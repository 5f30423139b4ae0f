"""The tests here ask the same of every framework; `pytest --framework NAME` says of which."""

from typing import Any

import pytest

import elman


@pytest.fixture(scope="session")
def framework(pytestconfig: pytest.Config) -> str:
    """The name of the framework under test; where it cannot be imported, its tests fail."""
    name = pytestconfig.getoption("framework")
    if name is None:
        raise pytest.UsageError("say which framework is to be tested: --framework NAME")
    return str(name)


@pytest.fixture(scope="session")
def module(framework: str) -> Any:
    """The framework's module."""
    return elman.framework_module(framework)
