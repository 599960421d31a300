"""Many calls of a store at the same time: one after the other, those of an owner with many sessions take too long."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar

from anyio import create_task_group

from sessioncore._errors import StorageError

__all__ = ["TOGETHER", "for_each"]

TOGETHER: Final = 64

T = TypeVar("T")


async def for_each(keys: Collection[str], call: Callable[[str], Awaitable[T]]) -> dict[str, T]:
    """Return what `call` returns for each key, at most 64 calls at a time.

    Raises:
        StorageError: that of the first call that failed; calls that had begun went on to their end.
    """
    answers: dict[str, T] = {}
    failures: list[StorageError] = []
    rest = iter(keys)

    async def work() -> None:
        for key in rest:
            if failures:
                return
            try:
                answers[key] = await call(key)
            except StorageError as exc:  # a task group would wrap it
                failures.append(exc)

    async with create_task_group() as tasks:
        for _ in range(min(TOGETHER, len(keys))):
            tasks.start_soon(work)
    if failures:
        raise failures[0]
    return answers
