"""The event loop of this folder's tests, and what they work on."""

from tests.kit import anyio_backend, lab

__all__ = ["anyio_backend", "lab"]
