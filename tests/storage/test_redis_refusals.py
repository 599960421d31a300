"""What a server may refuse, and what the caller then learns: real servers, each in the state in question."""

import asyncio
import re
import time
import traceback
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
import redis as blocking
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from servers.redis_server import Server, one_server, until
from tests.storage.redis_rig import Own, client_of, storage_at
from tests.storage.rigs import answered, made, record_at

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage import WritesRefused
from sessioncore.storage.redis import NearCache, RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]


@pytest.mark.proves("AT-53")
async def test_a_flushed_script_cache_is_not_noticed(server: Server) -> None:
    async with storage_at(server.port) as storage:
        at = await made(storage, "k", b"0", owner="u")
        for turn in range(20):
            server.do("SCRIPT", "FLUSH")
            results = await asyncio.gather(
                storage.replace("k", b"%d" % turn, 1000, version=at, owner="u"),
                *(storage.load("k", renew=1000) for _ in range(5)),
                storage.touch("k", 1000),
                storage.owned_keys("u"),
            )
            assert isinstance(results[0], int)
            at = results[0]


@pytest.mark.proves("P7", "AT-60")
async def test_out_of_memory_is_unavailable_and_changes_nothing() -> None:
    with one_server("--maxmemory-policy", "noeviction") as server:
        async with storage_at(server.port) as storage:
            at = await made(storage, "k", b"before", owner="u")
            await made(storage, "k2")
            server.do("CONFIG", "SET", "maxmemory", 1)
            for call in (
                storage.create("new", b"data", 10),
                storage.create("new", b"data", 10, owner="u"),
                storage.replace("k", b"after", 10, version=at, owner="w"),
                storage.move("k", "new", b"after", 10, version=at, owner="w"),
            ):
                with pytest.raises(StorageUnavailable, match="OOM"):
                    await call
            stored = await record_at(storage, "k")
            assert (stored.data, stored.version) == (b"before", at)
            assert await storage.load("new") is None
            assert await storage.owned_keys("u") == ["k"]
            assert await storage.owned_keys("w") == []
            # To end or prolong a session needs no memory.
            assert await storage.touch("k", 500)
            assert await storage.delete("k", "k2") == 2


@pytest.mark.proves("AT-61")
async def test_a_server_that_is_loading_is_unavailable_and_then_serves() -> None:
    with one_server() as server:
        server.do("EVAL", "for i = 1, 1500 do redis.call('SET', 'fill:' .. i, string.rep('x', 100)) end", 0)
        server.do("SAVE")
        slow = ("--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024")
        if not server.do("CONFIG", "GET", slow[2].removeprefix("--")):
            pytest.skip("before 7.0 nothing makes a small file load slowly")
        server.kill()
        server.start_with(*slow)
        async with storage_at(server.port) as storage:
            refusals: list[str] = []
            end = time.monotonic() + 10
            while time.monotonic() < end:
                try:
                    await storage.load("k")
                    break
                except StorageUnavailable as exc:
                    refusals.append(str(exc))
                    await asyncio.sleep(0.01)
            assert any("LOADING" in text for text in refusals), refusals
            await made(storage, "k")


async def test_another_type_at_the_key_of_an_index_is_an_error_that_says_what_to_do(server: Server) -> None:
    async with storage_at(server.port) as storage, client_of(server.port) as raw:
        await raw.hset("secret:sessioncore-index", "field", "value")
        with pytest.raises(StorageError, match="holds something else") as caught:
            await storage.create("session:k", b"", 5, owner="secret")
        assert not isinstance(caught.value, StorageUnavailable)
        assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_the_error_names_a_database_that_the_server_does_not_have(server: Server) -> None:
    storage = RedisStorage.from_url(f"redis://127.0.0.1:{server.port}/99")
    for _ in range(2):  # the second time in the pause after the first attempt
        with pytest.raises(StorageUnavailable, match=r"DB index is out of range.*URL") as caught:
            await storage.check()
        assert "network" not in str(caught.value)
    await storage.aclose()


@pytest.mark.proves("AT-61")
@pytest.mark.parametrize("kind", [Redis, Own])
async def test_the_error_names_a_missing_or_wrong_password_and_never_shows_it(kind: Any) -> None:
    impatient = Retry(NoBackoff(), 0)  # redis-py itself would try for ten seconds
    with one_server("--requirepass", "the-password") as server:
        storage = RedisStorage(client_of(server.port, kind, retry=impatient))
        with pytest.raises(StorageUnavailable, match=r"wants a password.*URL") as caught:
            await storage.load("k")
        assert caught.value.__cause__ is not None
        assert "network" not in str(caught.value)
        wrong = RedisStorage(client_of(server.port, kind, password="a-wrong-one", retry=impatient))
        for _ in range(2):  # the second time in the pause after the first attempt
            with pytest.raises(StorageUnavailable, match=r"user and password.*URL") as caught:
                await wrong.load("k")
            assert "network" not in str(caught.value)
            assert "a-wrong-one" not in "".join(traceback.format_exception(caught.value))
        right = RedisStorage(client_of(server.port, password="the-password"))
        assert await right.load("k") is None
        for each in (storage, wrong, right):
            await each.aclose()


POLICY = r"maxmemory-policy {maxmemory-policy}.*misses that owner's sessions.*noeviction or volatile-ttl"
NO_AOF = "without an append-only file.*live again"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"maxmemory": "100mb", "maxmemory-policy": "volatile-lru"}, [POLICY, NO_AOF]),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-random"}, [POLICY, NO_AOF]),
        ({"maxmemory": "100mb", "maxmemory-policy": "volatile-ttl", "appendonly": "yes"}, []),
        ({"maxmemory-policy": "allkeys-lru", "appendonly": "yes"}, [POLICY]),
    ],
)
@pytest.mark.parametrize("kind", [Redis, Own])
async def test_settings_that_weaken_a_promise_are_logged_once(
    settings: dict[str, str], told: list[str], kind: Any, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in settings.items():
        server.do("CONFIG", "SET", name, value)
    try:
        async with client_of(server.port, kind) as client, aclosing(RedisStorage(client)) as storage:
            for _ in range(2):
                await storage.open()
                await storage.check()
    finally:
        for name, value in {"maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "no"}.items():
            server.do("CONFIG", "SET", name, value)
    warned = [record.getMessage() for record in caplog.records if record.name == "sessioncore"]
    for text, pattern in zip(warned, told if kind is Redis else [*told, "are not redis-py's own"], strict=True):
        assert re.search(pattern.format_map(settings), text)


async def test_settings_are_looked_at_by_the_first_check_that_the_server_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with one_server("--maxmemory-policy", "allkeys-lru", "--appendonly", "yes") as server:
        async with storage_at(server.port) as storage:
            server.kill()
            with pytest.raises(StorageUnavailable):
                await storage.check()
            server.start()
            await answered(storage.check)
    assert re.search(POLICY.format_map({"maxmemory-policy": "allkeys-lru"}), caplog.text)


async def test_a_server_that_cannot_write_its_snapshot_still_proves_what_it_holds() -> None:
    with one_server() as server:
        async with storage_at(server.port, near_cache=NearCache(max_stale=timedelta(0))) as storage:
            await made(storage, "k")
            await storage.load("k")
            (server.folder / "dump.rdb").mkdir()
            server.do("CONFIG", "SET", "save", "3600 1000")
            server.do("BGSAVE")
            until(lambda: server.do("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
            with pytest.raises(WritesRefused, match=r"MISCONF.*its disk"):
                await storage.check()  # a PING is refused like a write
            await storage.confirm()
            await record_at(storage, "k")
            assert storage.near_cache_stats().hits == 1


async def test_a_server_that_does_not_reveal_its_settings_is_used_without_warnings(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.do("ACL", "SETUSER", "web", "reset", "on", ">word", "~*", "+@all", "-info")
    async with aclosing(RedisStorage.from_url(f"redis://web:word@127.0.0.1:{server.port}/0")) as storage:
        await storage.open()
    assert caplog.records == []


async def test_commands_that_fail_later_are_logged_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with one_server("--rename-command", "EVAL", "", "--rename-command", "SCAN", "") as server:
        async with storage_at(server.port) as storage:
            await storage.open()
    assert re.search(r"writes will fail: .*unknown command .?EVAL", caplog.text)
    assert re.search(r"counting will fail: .*unknown command .?SCAN", caplog.text)


@pytest.mark.parametrize("owner", [None, "u"])
async def test_the_error_names_a_cluster_with_a_plain_url(nodes: list[Server], owner: str | None) -> None:
    async with storage_at(nodes[0].port) as storage:
        with pytest.raises(StorageError, match=r"is a cluster; use .*redis\+cluster://"):
            for key in "abcd":  # some of these are on this node
                at = await made(storage, key, owner=owner)
                await storage.move(key, f"{key}2", b"", 100, version=at, owner=owner)
                await storage.delete(f"{key}2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rename-command", "HELLO", ""), r"unknown command .?HELLO.*protocol=2"),
        (("--rename-command", "EVALSHA", ""), r"unknown command .?EVALSHA.*needs this command"),
        (("--rename-command", "PTTL", ""), r"at PTTL: .*[Uu]nknown.* command called from.*needs this command"),
        (("--maxclients", "1"), r"max number of clients reached"),
    ],
    ids=["HELLO", "EVALSHA", "PTTL", "maxclients"],
)
@pytest.mark.parametrize("kind", [Redis, Own])
async def test_the_error_has_the_servers_own_words(options: tuple[str, ...], said: str, kind: Any) -> None:
    first: Any
    with one_server(*options) as server, blocking.Redis(port=server.port, protocol=2) as first:
        until(first.ping)  # it stays connected, so with a `maxclients` of one there is no room for another
        async with client_of(server.port, kind, protocol=3, retry=Retry(NoBackoff(), 0)) as client:
            storage = RedisStorage(client)
            with pytest.raises(StorageError, match=said) as caught:
                await storage.create("session:secret", b"data", 10, owner="session:owner:secret")
            assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
            await storage.aclose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://u:hunter2@127.0.0.1:1/0", r"no connection could be opened \(.*Connect call failed"),
        ("redis+sentinel://u:hunter2@127.0.0.1:1,127.0.0.1:2/main/0", r"no sentinel answered \(.*Connect call failed"),
        ("redis+sentinel://u:hunter2@127.0.0.1:{}/main/0", r"is no sentinel; .*write redis://$"),
        ("redis+cluster://127.0.0.1:{}", r"this server is no cluster: use .*a redis:// URL$"),
    ],
)
async def test_the_error_says_what_listens_at_an_address_if_anything_does(server: Server, url: str, said: str) -> None:
    async with aclosing(RedisStorage.from_url(url.format(server.port))) as storage:
        with pytest.raises(StorageUnavailable, match=said) as caught:
            await storage.check()
    assert not isinstance(caught.value, WritesRefused)
    assert "hunter2" not in str(caught.value)
    assert "=" not in str(caught.value), "the error contains a repr"
