"""The tests of the codec run on asyncio alone: no task, timer or cancel scope plays a part in them."""

from tests.kit import anyio_backend

__all__ = ["anyio_backend"]
