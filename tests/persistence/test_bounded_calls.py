"""Which calls to a storage get a timer from the store, and which the storage bounds itself."""

import gc
import select
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from math import inf
from typing import Any, TypeVar

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab
from tests.stores import SpyStorage, without_checks

from sessioncore import ConfigError, MemoryStorage, SessionConfig, SessionStore, StorageUnavailable
from sessioncore.concurrency._standstill import LateDeadline, PolledDeadline
from sessioncore.storage import (
    AnswersNow,
    BoundsCalls,
    Clears,
    KeepsTombstones,
    LoadsMany,
    Purges,
    Scans,
    SpreadsKeys,
    Watches,
    capabilities_of,
)

pytestmark = pytest.mark.anyio

T = TypeVar("T")

LIMIT = timedelta(seconds=0.05)


class Bounded(SpyStorage):
    """Promises to bound its calls, and records the deadline that is in force at each of them."""

    capabilities = SpyStorage.capabilities | {BoundsCalls}
    willing = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []
        self.seen: dict[str, float] = {}

    def bound_calls(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return self.willing

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.seen[name] = anyio.current_effective_deadline()
        return await super()._through(name, call)


class OwnLoad(Bounded):
    """Inherits the promise, but overrides the load for which it was given."""

    async def load(self, key: str, *, renew: float | None = None) -> Any:
        await anyio.sleep(30)
        return await super().load(key, renew=renew)


class Wrapper:
    """Passes on every attribute that it lacks, and with them the promise of another storage."""

    def __init__(self, inner: Bounded) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def load(self, key: str, *, renew: float | None = None) -> Any:
        await anyio.sleep(30)
        return await self._inner.load(key, renew=renew)


def store_on(storage: Any) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage, storage_timeout=LIMIT))


async def visit(store: SessionStore) -> None:
    """Create a session, load it, and end it."""
    sid = (await store.create({"n": 1})).id
    assert (await store.get_by_id(sid))["n"] == 1
    assert await store.delete(sid)


async def test_a_storage_is_told_the_limit_and_gets_a_timer_for_each_call_that_it_does_not_bound() -> None:
    for willing in (True, False):
        storage = Bounded()
        storage.willing = willing
        await visit(store_on(storage))
        assert storage.asked == [0.05]
        assert (storage.seen["load"] == storage.seen["create"] == inf) is willing
        assert min(storage.seen.values()) < inf  # the promise does not cover delete
        assert willing or max(storage.seen.values()) < inf
    no_bool: Any = "yes"  # or a coroutine, which is true, too
    storage.willing = no_bool
    with pytest.raises(ConfigError, match=r"^Bounded\.bound_calls must return True or False"):
        store_on(storage)


@BOTH_LOOPS
@pytest.mark.parametrize("reply_in_time", [True, False])
async def test_a_process_that_was_stopped_takes_a_reply_that_comes_soon_after(reply_in_time: bool) -> None:
    lab = Lab(storage_timeout=LIMIT)
    sid = (await lab.begin()).sid or ""

    async def stop() -> None:
        select.select([], [], [], 0.7)  # nothing runs, as when the process is stopped
        await anyio.sleep(0.2 if reply_in_time else 30)

    lab.storage.before["load"] = stop
    with nullcontext() if reply_in_time else pytest.raises(StorageUnavailable, match="did not reply within"):
        await lab.store.get_by_id(sid)


def test_a_deadline_that_came_long_ago_moves_once_by_a_second() -> None:
    for sooner in (0.0, 2.0):
        deadline = PolledDeadline(10.0 + sooner)
        assert [deadline.left(now, sooner) for now in (9, 10.25, 11, 11.5, 13)] == [1, -0.25, 1, 0.5, -1]


@BOTH_LOOPS
async def test_a_call_that_has_ended_leaves_no_timer_behind() -> None:
    def kept() -> int:
        gc.collect()
        return sum(type(one) is LateDeadline for one in gc.get_objects())  # pyright: ignore[reportUnknownArgumentType]

    store = Lab().store
    await visit(store)
    before = kept()
    await visit(store)
    assert kept() <= before


async def test_a_promise_holds_neither_where_a_call_was_replaced_nor_for_a_wrapper() -> None:
    own, inner = OwnLoad(), Bounded()
    for storage, told in ((own, own), (Wrapper(inner), inner)):
        store = store_on(storage)
        assert told.asked == []
        sid = (await store.create({"n": 1})).id
        assert told.seen["create"] < inf
        with pytest.raises(StorageUnavailable):
            await store.get_by_id(sid)


# -- what a class declares


class Plain(MemoryStorage):
    """Overrides none of the calls."""

    def extra(self) -> None: ...


class OwnTouch(MemoryStorage):
    async def touch(self, key: str, ttl: float) -> bool:
        return await super().touch(key, ttl)


class OwnDelete(Plain):
    async def delete(self, *keys: str) -> int:
        return await super().delete(*keys)


class OwnMove(MemoryStorage):
    async def move(self, *args: Any, version: int, owner: str | None = None) -> Any:  # type: ignore[override]
        return await super().move(*args, version=version, owner=owner)


class Declares(OwnTouch):
    capabilities = frozenset({AnswersNow, Clears})


class OwnPurge(MemoryStorage):
    async def purge_expired(self) -> int:
        return await super().purge_expired()


ABOUT_ALL = frozenset({Clears, Purges, Scans})
ALL = ABOUT_ALL | {AnswersNow, BoundsCalls, KeepsTombstones, LoadsMany, Watches}


def test_a_storage_can_do_what_its_class_declares_and_an_overridden_call_does_not_answer_at_once() -> None:
    for storage in (MemoryStorage(), Plain(), OwnPurge()):
        assert capabilities_of(storage) == ALL
    for storage in (OwnTouch(), OwnDelete()):
        assert capabilities_of(storage) == ALL - {AnswersNow, BoundsCalls}
    assert capabilities_of(OwnMove()) == ABOUT_ALL | {LoadsMany, Watches}  # its move leaves no tombstone
    assert capabilities_of(OwnLoad()) == SpyStorage.capabilities - {AnswersNow}
    assert capabilities_of(Declares()) == {AnswersNow, Clears}
    assert capabilities_of(Wrapper(Bounded())) == set()
    for wrong in ([Clears], frozenset({"Clears"})):
        with pytest.raises(ConfigError, match=r"Wrong.capabilities must be a frozenset"):
            SessionConfig(storage=type("Wrong", (MemoryStorage,), {"capabilities": wrong})())
    with pytest.raises(ConfigError, match=r"Wrong declares SpreadsKeys .* but has no names_on_servers"):
        SessionConfig(storage=type("Wrong", (MemoryStorage,), {"capabilities": frozenset({SpreadsKeys})})())


async def test_without_a_capability_the_store_makes_none_of_its_calls() -> None:
    inner = Bounded()
    store = store_on(Wrapper(inner))
    async with store:
        await store.start()
        assert await store.purge_expired() == 0
        with pytest.raises(ConfigError, match="Wrapper cannot find records by prefix"):
            await store.reset()
    assert inner.calls == []


async def test_with_a_capability_the_store_makes_its_calls() -> None:
    inner = SpyStorage()
    async with store_on(inner) as store:
        await store.check()
        await store.purge_expired()
        await store.reset()
    assert inner.calls.count("check") == 2
    assert without_checks(inner.calls) == ["open", "purge_expired", "clear", "aclose"]
    with pytest.raises(ZeroDivisionError):
        async with store:
            raise ZeroDivisionError
    assert without_checks(inner.calls)[4:] == ["open", "aclose"]
