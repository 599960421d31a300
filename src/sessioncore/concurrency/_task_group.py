"""Runs tasks that end with a block."""

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import anyio

__all__ = ["TaskGroup"]


class TaskGroup:
    """anyio's task group, except that work which is cancelled before it begins is dropped without a warning.

    anyio awaits each piece of work in a coroutine of its own. `Task.cancel()`, which the end of `asyncio.run`
    calls for every task, and servers for the task of a client that has left, may end that coroutine before
    its first step. Python would then warn that the work "was never awaited".
    """

    __slots__ = ("_group", "_not_begun")

    def __init__(self) -> None:
        self._group = anyio.create_task_group()
        self._not_begun: dict[object, Coroutine[Any, Any, None]] = {}

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._group.__aexit__(exc_type, exc, traceback)
        finally:
            for work in self._not_begun.values():
                work.close()

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run `work(*args)` in a task of its own."""
        place = object()

        async def run() -> None:
            del self._not_begun[place]
            await work(*args)

        self._not_begun[place] = waiting = run()
        self._group.start_soon(lambda: waiting, name=getattr(work, "__qualname__", None))

    def cancel(self) -> None:
        """Cancel all tasks, and the block."""
        self._group.cancel_scope.cancel()
