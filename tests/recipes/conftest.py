"""What the recipes run under."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster


@pytest.fixture(autouse=True)
def others_may_block(no_blocking_calls: BlockBuster) -> Iterator[None]:
    """Let other libraries read their templates and settings in the event loop, below our middleware."""
    no_blocking_calls.deactivate()
    yield
    no_blocking_calls.activate()
