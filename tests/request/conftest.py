"""The event loop of this folder's tests."""

from tests.kit import anyio_backend

__all__ = ["anyio_backend"]
