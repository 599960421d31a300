"""Checks functions that an application passes in, where it passes them and not where they are called."""

from inspect import iscoroutinefunction

__all__ = ["is_sync_callable"]


def is_sync_callable(function: object) -> bool:
    """Return whether calling `function` returns its result, and not a coroutine."""
    return callable(function) and not iscoroutinefunction(function) and not iscoroutinefunction(type(function).__call__)
