"""Any py-key-value store: what it keeps of the contract, and what it reports that it cannot keep."""

import asyncio
import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest
from key_value.aio.errors import DeserializationError, ValueTooLargeError
from key_value.aio.errors.wrappers import CorruptedDataError, DecryptionError, EntryTooLargeError, ReadOnlyError
from key_value.aio.stores.memory import MemoryStore
from key_value.aio.stores.redis import RedisStore
from msgspec import structs
from servers.redis_server import Server, until
from tests.storage.rigs import made, manual_rig, record_at

from sessioncore import SessionConfig, SessionStore, Unreadable, storage_from_url
from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.storage import Clears, Scans, Stored, capabilities_of
from sessioncore.storage.keyvalue import KeyValueStorage, KeyValueStore
from sessioncore.storage.keyvalue._record import Record, keys_of, name_of
from sessioncore.testing import STORAGE_CHECKS, Check, ManualClock, Rig

pytestmark = pytest.mark.anyio


class Plain:
    """A minimal store: a dictionary that cannot list its keys, and that a test can make fail."""

    def __init__(self) -> None:
        self.values: dict[tuple[str | None, str], dict[str, Any]] = {}
        self.failing: dict[str, Exception] = {}

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        await self._pause("get")
        return self.values.get((collection, key))

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None:
        await self._pause("put")
        assert ttl is not None
        assert ttl > 0
        self.values[collection, key] = dict(value)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        await self._pause("delete")
        return self.values.pop((collection, key), None) is not None

    async def _pause(self, name: str) -> None:
        await anyio.lowlevel.checkpoint()
        if name in self.failing:
            raise self.failing[name]


def foreign_value_in(store: KeyValueStore) -> Callable[[str], Awaitable[None]]:
    """Return a function that puts another program's value into this store."""

    async def make_unreadable(key: str) -> None:
        await store.put(name_of(key), {"data": 7}, collection="sessioncore", ttl=1000)

    return make_unreadable


# A store that cannot list its keys refuses `clear`.
WITHOUT_CLEAR = [check for check in STORAGE_CHECKS if Clears not in check.needs]


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("check", WITHOUT_CLEAR)
async def test_a_store_that_pauses_in_each_call_and_lists_nothing_keeps_the_rest(check: Check) -> None:
    store, clock = Plain(), ManualClock()
    rig = manual_rig(KeyValueStorage(store, clock=clock), clock)
    await check(structs.replace(rig, make_unreadable=foreign_value_in(store)))


@pytest.mark.redis
@pytest.mark.parametrize("check", STORAGE_CHECKS)
async def test_in_one_process_the_whole_contract_holds_on_a_real_server(server: Server, check: Check) -> None:
    async with RedisStore(url=f"redis://127.0.0.1:{server.port}") as store, aclosing(KeyValueStorage(store)) as storage:
        await store.destroy()

        async def remaining(key: str) -> float | None:
            value = await store.get(name_of(key), collection="sessioncore")
            stored = await storage.load(key)
            assert value is None or not isinstance(stored, Stored) or value["version"] == str(stored.version)
            return stored.ttl if isinstance(stored, Stored) else None

        await check(Rig(storage, 0.05, anyio.sleep, remaining, foreign_value_in(store)))


async def test_a_store_that_cannot_list_its_keys_refuses_to_clear() -> None:
    storage = KeyValueStorage(Plain())
    await storage.create("a", b"x", 100)
    with pytest.raises(StorageError, match="cannot list"):
        await storage.clear("a")
    assert await storage.load("a") is not None
    assert await storage.purge_expired() == 0
    assert Scans not in capabilities_of(storage)


async def test_keys_beyond_those_that_the_store_lists_are_an_error_and_no_smaller_count() -> None:
    class LongStore(MemoryStore):
        async def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
            return [f"app:{number}" for number in range(limit or 0)]

    storage: Any = KeyValueStorage(LongStore())
    with pytest.raises(StorageError, match="at most"):
        [batch async for batch in storage.scan("app:")]


async def test_purge_drops_what_the_store_would_keep_longer() -> None:
    clock, store = ManualClock(), MemoryStore()
    storage = KeyValueStorage(store, clock=clock)
    await storage.create("dead", b"x", 100)
    await storage.create("live", b"x", 300)
    half_moved = Record(b"x", 1, clock() + 300, None, replaces="live")  # as a move in another process leaves it
    await store.put("moving", half_moved.pack(), collection="sessioncore")
    await store.put("%FF", {"of": "another program"}, collection="sessioncore")
    clock.advance(200)
    assert await storage.purge_expired() == 1
    assert await storage.purge_expired() == 0
    assert await storage.load("live") is not None
    assert await store.get("moving", collection="sessioncore")


@pytest.mark.parametrize("failing", ["get", "put", "delete"])
async def test_any_error_of_the_store_is_unavailable_with_its_cause(failing: str) -> None:
    store = Plain()
    storage = KeyValueStorage(store)
    at = await made(storage, "secret-key", b"secret-data", 100, owner="secret-owner")
    store.failing[failing] = LookupError("secret-key")
    with pytest.raises(StorageUnavailable) as caught:
        await storage.move("secret-key", "secret-new", b"secret-data", 100, version=at, owner="secret-owner")
    assert isinstance(caught.value.__cause__, LookupError)
    assert "secret" not in str(caught.value)


async def test_a_store_that_never_answers_does_not_keep_the_start_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessioncore.storage.keyvalue._calls._LONGEST_CHECK", 0.01)

    class Silent(Plain):
        async def _pause(self, name: str) -> None:
            await anyio.sleep_forever()

    with pytest.raises(StorageUnavailable, match="TimeoutError"):
        await SessionStore(SessionConfig(storage=KeyValueStorage(Silent()))).start()


@pytest.mark.parametrize("error", [ValueTooLargeError(2, 1), EntryTooLargeError(2, 1), ReadOnlyError("put")])
async def test_what_the_store_or_a_wrapper_refuses_is_no_outage(error: Exception) -> None:
    store = Plain()
    store.failing["put"] = error
    with pytest.raises(StorageError, match=type(error).__name__) as caught:
        await KeyValueStorage(store).create("a", b"x", 100)
    assert not isinstance(caught.value, StorageUnavailable)


@pytest.mark.parametrize("survives", range(11))
async def test_a_move_that_breaks_off_anywhere_leaves_one_of_the_two_records(survives: int) -> None:
    class Dies(Plain):
        calls = -100

        async def _pause(self, name: str) -> None:
            self.calls += 1
            if self.calls > survives:
                raise OSError
            await super()._pause(name)

    store = Dies()
    storage = KeyValueStorage(store)
    at = await made(storage, "old", b"x", 100, owner="u")
    store.calls = 0
    with pytest.raises(StorageUnavailable):
        await storage.move("old", "new", b"y", 100, version=at, owner="u")
    store.calls = -100
    (alive,) = [key for key in ("old", "new") if await storage.load(key) is not None]
    assert await storage.owned_keys("u") == [alive]
    assert await storage.touch(alive, 100)
    assert await storage.delete("old", "new") == 1


async def test_an_index_heals_itself_and_does_not_grow_for_ever() -> None:
    store, clock = Plain(), ManualClock()
    storage, second = (KeyValueStorage(store, clock=clock) for _ in range(2))
    await storage.create("a", b"x", 100, owner="u")
    await made(second, "b", b"x", 100, owner="u")
    lost = next(name for name in store.values if name[0] == "sessioncore-owners")
    store.values[lost]["keys"] = ["a", "never-was"]
    del store.values[lost]["ends"]  # earlier versions kept one end for all
    assert await storage.owned_keys("u") == ["a"]
    assert store.values[lost]["keys"] == ["a"]
    assert await second.touch("b", 200)
    assert sorted(await storage.owned_keys("u")) == ["a", "b"]
    clock.advance(101)
    await storage.create("c", b"x", 100, owner="u")
    assert store.values[lost]["keys"] == ["b", "c"]
    store.values[lost]["ends"] = "damaged"
    assert await storage.owned_keys("u") == []


async def test_the_sessions_of_an_owner_are_read_and_ended_many_at_a_time() -> None:
    class Busy(Plain):
        running = most = puts = 0

        async def _pause(self, name: str) -> None:
            self.running += 1
            self.most, self.puts = max(self.most, self.running), self.puts + (name == "put")
            await super()._pause(name)
            self.running -= 1

    storage = KeyValueStorage(store := Busy())
    for number in range(100):
        await storage.create(f"{number}", b"x", 100, owner="u")
    store.puts = 0
    assert len(keys := await storage.owned_keys("u")) == 100
    assert (store.most, await storage.delete(*keys), store.puts, store.values) == (64, 100, 1, {})
    assert await storage.owned_keys("u") == []


@pytest.mark.parametrize(
    "found",
    [
        {}, {"data": 7}, {"data": "eA==", "version": None, "expires_at": "0"}, ["a list"], "a text", 7,
        {**Record(b"x", 1, 0.0, None).pack(), "data": "?eA=="},
        *({**Record(b"x", 1, 0.0, None).pack(), "expires_at": end} for end in ("inf", "nan", 10**400)),
        DeserializationError(), DecryptionError(), CorruptedDataError(),
    ],
    ids=lambda found: repr(found)[:40],
)  # fmt: skip
async def test_something_foreign_at_our_key_or_what_the_store_cannot_read_is_unreadable_and_stays(found: Any) -> None:
    store = Plain()
    storage = KeyValueStorage(store)
    at = await made(storage, "a", b"x", 100)
    if isinstance(found, Exception):
        store.failing["get"] = found
    else:
        store.values["sessioncore", "a"] = found
    before = dict(store.values)
    for renew in (None, 100):
        assert await storage.load("a", renew=renew) == Unreadable()
    for version in (0, at):
        assert await storage.replace("a", b"new", 100, version=version) == Unreadable()
    assert store.values == before
    assert await storage.delete("a") == 1


@pytest.mark.parametrize("store", [None, {}, 5, "redis://hunter2@host", MemoryStore], ids=repr)
def test_what_is_no_store_is_refused_at_once(store: Any) -> None:
    with pytest.raises(ConfigError, match="py-key-value") as caught:
        KeyValueStorage(store)
    assert "hunter2" not in str(caught.value)


async def test_a_store_gets_nothing_but_text_in_plain_ascii() -> None:
    store = Plain()
    storage = KeyValueStorage(store)
    for odd in ("\x00", "a b/c", "\U0001f36a", "\ud800", "%", "a:b"):
        await made(storage, odd, bytes(range(256)), 100, owner=odd)
        assert await storage.owned_keys(odd) == [odd]
        assert keys_of([name_of(odd), "%FF"]) == [odd]
    for (_, name), value in store.values.items():
        assert name.isascii()
        assert name.isprintable()
        assert {type(part) for part in value.values()} <= {str, list}
        assert all("".join(part).isascii() for part in value.values())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancellation_in_a_move_leaves_one_record() -> None:
    storage = KeyValueStorage(Plain())
    key, at = "k", await storage.create("k", b"x", 100, owner="u")
    for turn in range(60):
        assert at is not None
        task = asyncio.create_task(storage.move(key, f"k{turn}", b"x", 100, version=at, owner="u"))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        (key,) = await storage.owned_keys("u")
        at = (await record_at(storage, key)).version


# -- memcached, if it is installed, and aiomcache with it


@pytest.fixture(scope="module")
def memcached() -> Generator[str]:
    program = shutil.which("memcached")
    if program is None or importlib.util.find_spec("aiomcache") is None:
        pytest.skip("memcached or aiomcache is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([program, "-u", "nobody", "-l", "127.0.0.1", "-p", str(port)]) as process:
        until(lambda: accepts(port))
        yield f"keyvalue+memcached://127.0.0.1:{port}"
        process.kill()


def accepts(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.filterwarnings("ignore:A configured store is unstable:UserWarning")  # by py-key-value
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("check", [check for check in WITHOUT_CLEAR if "mebibyte" not in check.__name__])
async def test_in_one_process_memcached_keeps_what_it_can(memcached: str, check: Check) -> None:
    storage: Any = storage_from_url(memcached)
    await storage.create("old", b"", 100)
    await storage._calls.store._client.flush_all()

    async def remaining(key: str) -> float | None:
        stored = await storage.load(key)
        return stored.ttl if isinstance(stored, Stored) else None

    try:
        await check(Rig(storage, 0.05, anyio.sleep, remaining, foreign_value_in(storage._calls.store)))
    finally:
        await storage.aclose()
