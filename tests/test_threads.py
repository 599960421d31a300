"""What two threads do with one object at the same time, whatever the moment at which one overtakes the other."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import make_dataclass
from functools import partial
from itertools import count
from time import time
from typing import Any, cast

import pytest
from tests.models import Item
from tests.threads import Call, overtake

from sessioncore import ConfigError, MemoryStorage, SessionConfig, SessionStore, StorageUnavailable
from sessioncore._storage_calls import Create, Delete, Load, Replace
from sessioncore._warnings import Warnings
from sessioncore._watchers import Watchers
from sessioncore.codec._codec import Codec
from sessioncore.http._cross_site import MAX_LOGGED_ORIGINS, CrossSite, RefusedOrigins
from sessioncore.persistence._health import Health
from sessioncore.storage import Opens, Stored
from sessioncore.storage._per_loop import PerLoop
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore.storage.sqlite._file_changes import FileChanges
from sessioncore.storage.sqlite._records import Records
from sessioncore.testing import ManualClock

Calls = tuple[Call, Call, Call]


def refuse() -> Call:
    origins, numbers = RefusedOrigins(), count()

    def refuse_another() -> None:
        origins.log(CrossSite("POST", f"https://{next(numbers)}.example", compared=False, withheld=False))

    for _ in range(MAX_LOGGED_ORIGINS - 1):
        refuse_another()
    return refuse_another


@pytest.mark.parametrize(
    ("new", "times"),
    [
        (lambda: partial(Warnings().warn, "it is weak"), 1),
        (lambda: partial(Health(5.0).report, "a request", StorageUnavailable("it is away")), 1),
        (refuse, MAX_LOGGED_ORIGINS),
    ],
)
def test_nothing_is_logged_too_often(new: Callable[[], Call], times: int, caplog: pytest.LogCaptureFixture) -> None:
    def begin() -> Calls:
        caplog.clear()
        work = new()
        return work, work, lambda: len(caplog.messages)

    overtake(begin, "src/sessioncore", times)


def test_a_change_of_a_record_that_a_thread_begins_to_watch_is_reported() -> None:
    def begin() -> Calls:
        told, changes, file = list[str](), FileChanges(Records(time)), {"a": 1, "b": 1}

        def watch(key: str, later: int) -> None:
            changes.add([key], told.append)
            changes.note_answers([key], [Stored(b"", file[key], 1.0)])
            file[key] = later

        async def read(_: object, *keys: object) -> Any:
            return dict(file) if keys else tuple(file.values())

        def confirm() -> list[str]:
            asyncio.run(changes.confirm(read))
            return told

        watch("a", 1)
        return confirm, partial(watch, "b", 2), confirm

    overtake(begin, "_file_changes", ["b"])


def test_a_watch_that_begins_while_its_key_is_reported_gets_the_report() -> None:
    def begin() -> Calls:
        told, watchers = list[int](), Watchers()
        watchers.add(["k"], lambda _: told.append(1))
        notify = partial(watchers.notify, "k")
        return partial(watchers.add, ["k"], lambda _: told.append(2)), notify, lambda: notify() or sorted(told)

    overtake(begin, "_watchers", [1, 2])


def test_a_loop_that_ends_one_of_its_blocks_keeps_the_storage_open() -> None:
    class Closable(MemoryStorage):
        capabilities = MemoryStorage.capabilities | {Opens}
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    storage, runner = Closable(), asyncio.Runner()
    store = SessionStore(SessionConfig(storage=storage))

    async def open_and_close() -> None:
        async with store:
            pass

    def begin() -> Calls:
        runner.run(store.__aenter__())
        return lambda: runner.run(store.__aexit__()), lambda: asyncio.run(open_and_close()), lambda: storage.closed

    runner.run(store.__aenter__())
    overtake(begin, "_opening", False)
    runner.close()


class Connection:
    open = False

    async def aclose(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.open = False


def test_what_a_loop_has_opened_is_closed_if_it_ends_while_all_is_closed() -> None:
    def begin() -> Calls:
        one = Connection()
        per_loop = PerLoop(lambda: one, Connection.aclose, storage="S", driver="d")

        async def connect() -> None:
            with suppress(StorageUnavailable):  # all is closed already
                per_loop.here().open = True

        close = partial(per_loop.close, seconds=1)
        return lambda: asyncio.run(connect()), lambda: asyncio.run(close()), lambda: one.open

    overtake(begin, "asyncio/runners", False)


def test_of_two_classes_one_takes_the_name() -> None:
    def begin() -> Calls:
        registry, taken = Codec().registry, list[str]()

        def register(name: str) -> None:
            with suppress(ConfigError):
                registry.register(make_dataclass(name, []), name="shop")
                taken.append(name)

        return partial(register, "A"), partial(register, "B"), lambda: len(taken)

    overtake(begin, "_registry", 1)


def test_a_key_that_is_used_while_its_type_is_registered_has_all_of_its_classes() -> None:
    order: Any = make_dataclass("Order", [("item", Item)])

    def begin() -> Calls:
        codec, encoded = Codec(), list[object]()

        def register_and_encode() -> None:
            codec.registry.register_annotation(order)
            encoded.append(codec.encode("k", order(Item("a"))))

        return partial(codec.registry.register_annotation, order), register_and_encode, lambda: len(encoded)

    overtake(begin, "_registry", 1)


def test_a_purge_does_not_count_what_another_thread_ends() -> None:
    clock = ManualClock()

    def begin() -> Calls:
        storage, counted = MemoryStorage(clock=clock), list[int]()
        assert storage.answer_now(Create("live", b"", 1000, None)) != storage.answer_now(Create("old", b"", 1, None))
        clock.advance(2)
        end = partial(storage.answer_now, Delete(("live",)))
        return lambda: counted.append(asyncio.run(storage.purge_expired())), end, lambda: counted

    overtake(begin, "storage/memory", [1])


def test_no_thread_finds_a_record_that_another_one_is_writing() -> None:
    def begin() -> Calls:
        ended, call = list[object](), MemoryStorage().answer_now
        replace = Replace("k", b"new", 1000, cast("int", call(Create("k", b"old", 1000, "u"))), "v")
        return partial(call, replace), lambda: ended.extend([call(Delete(("k",))), call(Load("k"))]), lambda: ended

    overtake(begin, "_table", [1, None])


def test_what_the_near_caches_of_two_threads_count_is_added_up() -> None:
    def begin() -> Calls:
        storage: Any = RedisStorage.from_url("redis://127.0.0.1:1", near_cache=NearCache())

        async def miss() -> None:
            storage._loops.here().near.cache.begin_fill("k")

        return lambda: asyncio.run(miss()), lambda: asyncio.run(miss()), lambda: storage.near_cache_stats().misses

    overtake(begin, "near/_cache", 2)
