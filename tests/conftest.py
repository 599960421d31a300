"""What every test runs under: the event loops, and asserts that explain themselves."""

import pytest
from hypothesis import HealthCheck, settings
from tests.numbers import FULL

pytest.register_assert_rewrite("sessioncore.testing")

# A machine that is busy with other things is no defect of an example.
settings.register_profile(
    "patient", max_examples=100 if FULL else 25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on asyncio and on trio; a test file that cannot overrides this fixture."""
    return str(request.param)
