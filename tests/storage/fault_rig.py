"""Storages that break one promise each: each is written as one method, which names the checks that must catch it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from sessioncore import StorageError
from sessioncore.testing import STORAGE_CHECKS, Check

__all__ = ["breaks", "broken_by", "caught", "check_named"]

Method = TypeVar("Method", bound=Callable[..., Any])


def breaks(call: str, *checks: str) -> Callable[[Method], Method]:
    """Mark a method as a faulty version of `call`, which each of these checks of the kit must notice."""

    def mark(method: Method) -> Method:
        vars(method)["breaks"] = call, checks
        return method

    return mark


def broken_by(faults: type[Any]) -> list[Any]:
    """For each marked method of `faults`: a subclass with this version of the call, and each of its checks."""
    found: list[Any] = []
    for name, method in vars(faults).items():
        call, checks = getattr(method, "breaks", ("", ()))
        members: dict[str, Any] = {call: method, "capabilities": faults.capabilities}
        found += [pytest.param(type(name, (faults,), members), check, id=f"{name}-{check}") for check in checks]
    return found


def check_named(name: str) -> Check:
    (check,) = (check for check in STORAGE_CHECKS if check.__name__ == name)
    return check


@asynccontextmanager
async def caught() -> AsyncGenerator[None]:
    """Expect what a check raises if a promise is broken: its own assertion, or an error of the storage."""
    with pytest.raises((AssertionError, StorageError, TimeoutError, BaseExceptionGroup)) as found:
        yield
    error: Any = found.value
    while hasattr(error, "exceptions"):
        error = error.exceptions[0]
    assert isinstance(error, AssertionError | StorageError | TimeoutError)
