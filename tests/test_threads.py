"""What several threads do with one object at the same time, whatever the moment at which one overtakes the other."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from functools import partial
from time import time
from typing import Any, cast

import pytest
from tests.threads import overtaken

from sessioncore import ConfigError, MemoryStorage, SessionConfig, SessionStore, StorageUnavailable
from sessioncore._storage_calls import Create, Delete, Load, Replace
from sessioncore._warnings import Warnings
from sessioncore._watchers import Watchers
from sessioncore.codec._registry import Registry
from sessioncore.http._cross_site import MAX_LOGGED_ORIGINS, CrossSite, RefusedOrigins
from sessioncore.persistence._health import Health
from sessioncore.storage import Opens, Stored
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore.storage.sqlite._file_changes import FileChanges
from sessioncore.storage.sqlite._records import Records
from sessioncore.testing import ManualClock


def refuse(origins: RefusedOrigins, *names: object) -> None:
    for name in names:
        origins.log(CrossSite("POST", f"https://{name}.example", compared=False, withheld=False))


def fail(health: Health) -> None:
    health.failed(StorageUnavailable("it is away"))
    health.report("a request", StorageUnavailable("it is away"))


@pytest.mark.parametrize(
    "work",
    [
        lambda: partial(Warnings().warn, "w"),
        lambda: partial(refuse, RefusedOrigins(), 1),
        lambda: partial(fail, Health(5.0)),
    ],
    ids=["warning", "origin", "outage"],
)
def test_what_is_logged_once_is_logged_once_in_two_threads(
    work: Callable[[], Callable[[], object]], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in overtaken(lambda: (work(),) * 2, "src/sessioncore"):
        assert len(caplog.messages) == 1
        caplog.clear()


def test_two_threads_do_not_exceed_the_number_of_logged_origins(caplog: pytest.LogCaptureFixture) -> None:
    def begin() -> Sequence[Callable[[], object]]:
        origins = RefusedOrigins()
        refuse(origins, *range(MAX_LOGGED_ORIGINS - 1))
        return partial(refuse, origins, "a", "c"), partial(refuse, origins, "b")

    for _ in overtaken(begin, "_cross_site"):
        assert len(caplog.messages) == MAX_LOGGED_ORIGINS
        assert sum("Further origins" in text for text in caplog.messages) == 1
        caplog.clear()


def test_no_change_is_missed_of_a_record_that_a_thread_begins_to_watch() -> None:
    told, confirm = list[str](), list[Callable[[], object]]()

    def begin() -> Sequence[Callable[[], object]]:
        told.clear()
        changes, file = FileChanges(Records(time)), {"a": 1, "b": 1}

        def watch(key: str) -> None:
            changes.add([key], told.append)
            changes.note_answers([key], [Stored(b"", file[key], 1.0)])

        def watch_and_change() -> None:
            watch("b")
            file["b"] = 2

        async def read(_: object, *keys: object) -> Any:
            return dict(file) if keys else tuple(file.values())

        watch("a")
        confirm[:] = [lambda: asyncio.run(changes.confirm(read))]
        return *confirm, watch_and_change

    for _ in overtaken(begin, "_file_changes"):
        confirm[0]()
        assert told == ["b"]


class Closable(MemoryStorage):
    capabilities = MemoryStorage.capabilities | {Opens}
    closed = False

    async def aclose(self) -> None:
        self.closed = True


def test_a_loop_that_leaves_one_of_its_blocks_is_not_closed_out_by_another_loop() -> None:
    storage, runner = Closable(), asyncio.Runner()
    store = SessionStore(SessionConfig(storage=storage))

    async def pass_through() -> None:
        async with store:
            pass

    def begin() -> Sequence[Callable[[], object]]:
        runner.run(store.__aenter__())
        return lambda: runner.run(store.__aexit__()), lambda: asyncio.run(pass_through())

    runner.run(store.__aenter__())
    for _ in overtaken(begin, "_opening"):
        assert not storage.closed
    runner.close()


def test_of_two_threads_one_takes_the_name_of_a_type() -> None:
    refused, kinds = list[str](), [make_dataclass("A", []), make_dataclass("B", [])]

    def register(registry: Registry, kind: type) -> None:
        try:
            registry.register(kind, name="shop")
        except ConfigError as exc:
            refused.append(str(exc))

    for _ in overtaken(
        lambda: [partial(register, registry, kind) for registry in [Registry()] for kind in kinds], "_registry"
    ):
        assert ["already taken" in text for text in refused] == [True]
        refused.clear()


def test_a_purge_does_not_count_what_another_thread_ends() -> None:
    counted, clock = list[int](), ManualClock()

    def begin() -> Sequence[Callable[[], object]]:
        storage = MemoryStorage(clock=clock)
        for key in ("expired", "live"):
            storage.answer_now(Create(key, b"", 1 if key == "expired" else 1000, None))
        clock.advance(2)

        async def purge() -> None:
            counted.append(await storage.purge_expired())

        return lambda: asyncio.run(purge()), lambda: storage.answer_now(Delete(("live",)))

    for _ in overtaken(begin, "storage/memory"):
        assert counted.pop() == 1


def test_what_the_near_caches_of_two_threads_count_is_added_up() -> None:
    storages = list[RedisStorage]()

    async def miss() -> None:
        near = storages[-1]._loops.here().near  # pyright: ignore[reportPrivateUsage]
        assert near is not None
        near.cache.begin_fill("k")

    def begin() -> Sequence[Callable[[], object]]:
        storages.append(RedisStorage.from_url("redis://127.0.0.1:1", near_cache=NearCache()))
        return [lambda: asyncio.run(miss())] * 2

    for _ in overtaken(begin, "near/_cache"):
        assert storages[-1].near_cache_stats().misses == 2


def test_no_thread_finds_a_record_that_another_one_is_writing() -> None:
    ended = list[object]()

    def begin() -> Sequence[Callable[[], object]]:
        call = MemoryStorage().answer_now
        version = cast("int", call(Create("k", b"old", 1000, "u")))
        replace, delete, load = Replace("k", b"new", 1000, version, "v"), Delete(("k",)), Load("k")
        return partial(call, replace), lambda: ended.extend([call(delete), call(load)])

    for _ in overtaken(begin, "_table"):
        assert ended == [1, None]
        ended.clear()


def test_a_watch_that_begins_while_another_thread_reports_its_key_gets_the_report() -> None:
    told, again = list[str](), list[Callable[[], object]]()

    def begin() -> Sequence[Callable[[], object]]:
        watchers = Watchers()
        watchers.add(["k"], lambda _: told.append("first"))
        again.append(partial(watchers.notify, "k"))
        return partial(watchers.add, ["k"], lambda _: told.append("second")), again[-1]

    for _ in overtaken(begin, "_watchers"):
        again.pop()()
        assert sorted(told) == ["first", "second"]
        told.clear()
