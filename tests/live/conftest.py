"""The tests of this folder run on asyncio alone, where they do not say otherwise."""

from tests.kit import anyio_backend

__all__ = ["anyio_backend"]
