"""What every test runs under: the event loops, and asserts that explain themselves."""

import pytest

pytest.register_assert_rewrite("sessioncore.testing")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on asyncio and on trio; a test file that cannot overrides this fixture."""
    return str(request.param)
