"""Event loops in several threads of one process."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

__all__ = ["Work", "in_threads", "on_asyncio"]

Work = Callable[[], Coroutine[Any, Any, None]]


def on_asyncio(work: Work) -> None:
    asyncio.run(work())


def in_threads(works: Sequence[Work], runs: Sequence[Callable[[Work], Any]] = (on_asyncio,)) -> None:
    """Run each of `works` in a thread and event loop of its own, started by `runs` in turn; raise the first error."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def main(number: int) -> None:
        try:
            barrier.wait(20)
            runs[number % len(runs)](works[number])
        except BaseException as exc:  # noqa: BLE001 - it is raised below
            errors.append(exc)

    threads = [threading.Thread(target=main, args=(number,), daemon=True) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a task waits for ever"
    for error in errors:
        raise error
