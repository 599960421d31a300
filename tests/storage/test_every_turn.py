"""Work that is cut off in any iteration of its event loop leaves nothing behind, and the next call works."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest

from sessioncore import SessionConfig, SessionGone, SessionStore, storage_from_url
from sessioncore.concurrency._gather import gather


class TurnLoop(asyncio.SelectorEventLoop):
    """Calls `act` between two iterations: after `turns` of them, counted from when `turns` is set."""

    turns = 0
    act: Callable[[], object]

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.turns -= 1
        if self.turns == 0:
            self.act()


async def call_twice(_: SessionStore) -> None:
    await gather([anyio.lowlevel.checkpoint] * 2)


async def spend(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def watch(store: SessionStore) -> None:
    async with (await store.create({"n": 1})).alive():
        try:
            await spend(4)
        finally:  # the block ends after the task that watches
            await spend(8)


async def goes_on(store: SessionStore) -> None:
    session = await store.create()
    with pytest.raises(SessionGone), anyio.fail_after(5):
        async with session.alive():
            await store.delete(session.id)
            await anyio.sleep_forever()


def interrupt(_: asyncio.Task[Any]) -> None:
    """End the event loop, as Ctrl-C does."""
    raise KeyboardInterrupt


def cancel_all(main: asyncio.Task[Any]) -> None:
    """Cancel all tasks but the main one, which goes on."""
    for task in asyncio.all_tasks(main.get_loop()) - {main}:
        task.cancel()


@pytest.fixture
def url(request: pytest.FixtureRequest, path: Path) -> str:
    match request.param:
        case "redis":
            return str(request.getfixturevalue("server").url)
        case "cluster":
            return f"redis+cluster://127.0.0.1:{request.getfixturevalue('nodes')[0].port}"
        case "postgres":
            return str(request.getfixturevalue("postgres").new_database())
        case _:
            return f"sqlite:///{path}" if request.param == "sqlite" else "memory://"


ON_REDIS = partial(pytest.param, marks=pytest.mark.redis)


@pytest.mark.parametrize(
    ("url", "work", "cut"),
    [
        ("memory", call_twice, interrupt),
        ("memory", watch, interrupt),
        ("memory", watch, cancel_all),
        ("sqlite", watch, interrupt),
        ("sqlite", SessionStore.aclose, interrupt),
        ON_REDIS("redis", watch, interrupt),
        ON_REDIS("redis", watch, cancel_all),
        ON_REDIS("cluster", SessionStore.aclose, interrupt),
        pytest.param("postgres", SessionStore.create, interrupt, marks=pytest.mark.postgres),
    ],
    indirect=["url"],
)
def test_work_may_be_cut_off_in_any_turn(
    url: str,
    work: Callable[[SessionStore], Awaitable[object]],
    cut: Callable[..., None],
    path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(store: SessionStore, turns: int) -> bool:
        if work not in {call_twice, watch}:
            await store.create()  # so that it is connected already
        loop: Any = asyncio.get_running_loop()
        task = asyncio.ensure_future(work(store))
        loop.turns, loop.act = turns, partial(cut, asyncio.current_task())
        await asyncio.wait([task])
        loop.turns = 0
        if task.cancelled():
            await goes_on(store)
        return not task.cancelled()

    over = False
    for turns in count(1):
        store, began = SessionStore(SessionConfig(storage=storage_from_url(url))), monotonic()
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=TurnLoop) as runner:
            over = runner.run(main(store, turns))
        assert monotonic() - began < 9, "the end of the loop waited for work that had been cut off"
        asyncio.run(store.aclose())
        assert not list(path.parent.glob("sessions.db-*")), "a connection is left"
        if over:
            break
    gc.collect()  # a coroutine that was never awaited would warn now, which would fail this test
    assert not caplog.messages
