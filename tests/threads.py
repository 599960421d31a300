"""Threads of one process: event loops in several of them, and one that overtakes another before each instruction."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from types import FrameType
from typing import Any

__all__ = ["Call", "Work", "in_threads", "on_asyncio", "overtake"]

Call = Callable[[], object]
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


def overtake(
    begin: Callable[[], tuple[Callable[[], object], Callable[[], object], Callable[[], object]]],
    code: str,
    expected: Any,
) -> None:
    """Let `begin` return two calls, and what to compare with `expected` when both have ended.

    The second call runs in a thread, to its end unless it has to wait for the first one. It begins before the first
    instruction of the first call in files whose names contain `code`, then before the second one, and so on.
    """
    for number in count(1):
        first, second, observe = begin()
        if not _overtaken_at(number, first, threading.Thread(target=second), code):
            return
        assert observe() == expected, f"overtaken before instruction {number}"


def _overtaken_at(number: int, first: Call, thread: threading.Thread, code: str) -> bool:
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if code not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if not left and not thread.ident:
            thread.start()
            thread.join(0.005)
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        first()
    finally:
        sys.settrace(former)
    if thread.ident:
        thread.join()
    return left <= 0
