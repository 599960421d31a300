"""What is special about PostgreSQL: one statement for each call, its pools and DSNs, and what its errors say."""

import asyncio
import gc
import getpass
import hashlib
import logging
import time
from datetime import timedelta
from typing import Any

import pytest
from servers.postgres_server import PostgresServer
from tests.storage.postgres_rigs import backends, connection, driver, new_table, opened, proxied, table_of
from tests.storage.rigs import made

from sessioncore import Moved
from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.storage import Stored, Unreadable
from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.mark.parametrize("options", [{}, {"prepared_statements": False}], ids=["default", "unprepared"])
async def test_each_call_is_one_statement_and_one_round_trip(
    postgres: PostgresServer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGSSLMODE")  # as for users: the connection asks for TLS, and goes on without it
    async with proxied(postgres, max_connections=1, **options) as (storage, proxy):

        async def every_call() -> list[int]:
            trips: list[int] = []

            async def count(call: Any) -> Any:
                before = proxy.waits
                result = await call
                trips.append(proxy.waits - before)
                return result

            at = await count(storage.create("a", b"1", 100, owner="u"))
            await count(storage.load("a"))
            await count(storage.load("a", renew=100))
            at = await count(storage.replace("a", b"2", 100, version=at, owner="u"))
            assert isinstance(await count(storage.replace("a", b"3", 100, version=at - 1)), Stored)
            at = await count(storage.move("a", "b", b"4", 100, version=at, owner="u"))
            await count(storage.touch("b", 100))
            await count(storage.move("b", "c", b"4", 100, version=at, owner="u", tombstone=100))
            assert await count(storage.load("b")) == Moved("c")
            assert await count(storage.owned_keys("u")) == ["c"]
            assert await count(storage.delete("b", "d")) == 1
            await count(storage.delete("b"))
            await count(storage.check())
            return trips

        await every_call()  # asks what the statements take and return, and prepares them
        assert await every_call() == [1] * 13


async def test_strange_text_is_kept_apart_whatever_the_encoding(postgres: PostgresServer) -> None:
    async with connection(postgres.dsn()) as plain:
        await plain.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    odd = ["\x00", "a\x00", "a\x00b", "\ud800", "\U0001f36a", "\\x61", "a", "\x00sha256:", "ß" * 1000, "ß" * 999]
    async with opened(postgres.dsn("latin")) as storage:
        for text in odd:
            assert await storage.create(text, text.encode("utf-8", "surrogatepass"), 100, owner=text) is not None
        for text in odd:
            assert await storage.owned_keys(text) == [text]
            assert await storage.clear(text + "\x01") == 0
        assert await storage.clear("") == len(odd)


async def test_an_owner_cannot_pose_as_the_digest_of_a_long_one(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage:
        victim = "v" * 5000
        await storage.create("theirs", b"", 100, owner=victim)
        async with connection(postgres.dsn()) as plain:
            digest = bytes(await plain.fetchval(f"SELECT owner FROM {table_of(storage)}")).decode()
        await storage.create("mine", b"", 100, owner=digest)
        assert await storage.owned_keys(digest) == ["mine"]
        assert await storage.owned_keys(victim) == ["theirs"]


async def test_a_key_too_long_for_the_index_is_refused_with_a_hint(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage:
        long = hashlib.shake_256(b"long").hexdigest(5120)
        assert await storage.load(long) is None
        with pytest.raises(StorageError, match="longer than an index entry"):
            await storage.create(long, b"secret-data", 100)


def told_by(error: BaseException | None) -> str:
    """What an error and its causes say, the fields of the server's message included."""
    told = ""
    while error is not None:
        told += f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    return told


@pytest.mark.proves("P6")
async def test_errors_and_logs_name_no_key_owner_or_data(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {"log_parameter_max_length_on_error": "-1"}
    async with (
        driver.create_pool(postgres.dsn(), min_size=1, server_settings=settings) as pool,
        opened(pool) as storage,
        connection(postgres.dsn()) as plain,
    ):
        table = table_of(storage)
        at = await made(storage, "secret-key", b"secret-data", 100, owner="secret-owner")
        await storage.create("secret-taken", b"secret-data", 100)
        text: Any = "secret-data"
        with pytest.raises(StorageError, match="the new key is taken") as taken:
            await storage.move("secret-key", "secret-taken", b"secret-data", 100, version=at)
        with pytest.raises(StorageError, match="a value was refused") as value:
            await storage.replace("secret-key", text, 100, version=at)
        await plain.execute(f"ALTER TABLE {table} ADD CHECK (owner IS NOT NULL) NOT VALID")
        with pytest.raises(StorageError, match="violates check constraint") as constraint:
            await storage.replace("secret-key", b"secret-data", 100, version=at)
        told = "".join(told_by(caught.value) for caught in (taken, value, constraint)) + repr(storage) + caplog.text
    for text in ("secret-key", "secret-taken", "secret-data", "secret-owner"):
        assert text not in told
        assert text.encode().hex() not in told


async def test_the_table_is_made_once_however_many_start_together(postgres: PostgresServer) -> None:
    table = new_table()
    storages = [PostgresStorage(postgres.dsn(), table=table, max_connections=1) for _ in range(16)]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(storage.open() for storage in storages))
    assert await storages[0].create("a", b"x", 100) is not None
    assert await storages[-1].load("a") is not None
    for storage in storages:
        await storage.aclose()
        await storage.aclose()


async def test_the_first_calls_open_a_storage_that_nobody_opened(postgres: PostgresServer) -> None:
    storage = PostgresStorage(postgres.dsn(), table=new_table())
    results = await asyncio.gather(*(storage.create(f"{n}", b"x", 100) for n in range(20)))
    assert None not in results
    await storage.aclose()
    with pytest.raises(StorageUnavailable, match="is closed; `async with store:` opens it"):
        await storage.load("1")
    await storage.open()
    assert await storage.load("1") is not None
    await storage.aclose()


async def test_a_given_pool_stays_open_and_an_own_one_is_closed(postgres: PostgresServer) -> None:
    async with driver.create_pool(postgres.dsn(), min_size=1, max_size=2) as pool:
        async with opened(pool) as storage:
            await storage.create("a", b"x", 100)
        assert await pool.fetchval("SELECT 1") == 1
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'own'"
        async with opened(f"{postgres.dsn()}?application_name=own") as storage:
            assert await pool.fetchval(sql) == 1
        url, table = f"{postgres.dsn()}?application_name=own", new_table()  # a call that gets through finds no table
        for turns in range(6):  # the first call, which opens the storage, is cut off or finds it closed
            for cut_off in (False, True):
                storage = PostgresStorage(url, table=table, create_table=False)
                first = asyncio.create_task(storage.load("a"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if cut_off:
                    first.cancel()
                await storage.aclose()
                await asyncio.wait([first])
                assert first.cancelled() or isinstance(first.exception(), StorageError)
        while await pool.fetchval(sql):  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


async def test_the_error_names_a_pool_that_was_not_awaited_or_is_closed(postgres: PostgresServer) -> None:
    pool = driver.create_pool(postgres.dsn(), min_size=1, max_size=1)
    storage = PostgresStorage(pool)
    with pytest.raises(StorageUnavailable, match=r"await asyncpg\.create_pool"):
        await storage.open()
    await pool
    await pool.close()
    with pytest.raises(StorageUnavailable, match="close the store first"):
        await storage.open()


async def test_a_given_pool_serves_its_loop_only_and_other_loops_get_an_error(postgres: PostgresServer) -> None:
    async with driver.create_pool(postgres.dsn(), min_size=1, max_size=1) as pool, opened(pool) as storage:
        await storage.create("a", b"x", 100)
        for call in (storage.delete("a"), storage.check(), storage.open()):  # as a sync handler does
            with pytest.raises(StorageError, match=r"Pass the DSN instead .* anyio\.from_thread\.run") as caught:
                await asyncio.to_thread(asyncio.run, call)
            assert not isinstance(caught.value, StorageUnavailable)
        assert [await storage.create(key, b"x", 100) is None for key in "abc"] == [True, False, False]
        await asyncio.to_thread(asyncio.run, storage.aclose())
        await storage.open()
        assert await storage.create("a", b"x", 100) is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections that are left open
def test_loops_that_end_without_closing_it_leave_no_connections(postgres: PostgresServer) -> None:
    storage = PostgresStorage(f"{postgres.dsn()}?application_name=ended", table=new_table())
    for turn in range(10):
        assert (asyncio.run(storage.create("a", b"x", 100)) is None) == (turn > 0)
    gc.collect()
    while asyncio.run(backends(postgres, "ended")) > 1:  # that of the last loop; a backend ends after its connection
        time.sleep(0.05)
    asyncio.run(storage.aclose())
    gc.collect()
    asyncio.run(storage.open())
    assert asyncio.run(storage.create("a", b"x", 100)) is None
    asyncio.run(storage.aclose())
    gc.collect()


@pytest.mark.parametrize("source", [None, 5, b"postgresql://u:hunter2@h", [], ""], ids=repr)
def test_what_is_neither_a_dsn_nor_a_pool_is_refused_at_once(source: Any) -> None:
    with pytest.raises(ConfigError, match=r"postgresql://.*asyncpg\.Pool") as caught:
        PostgresStorage(source)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("mysql://u:hunter2@h/d", "expected postgresql://"),
        ("postgresql://u:hunter2@h:port/d", "expected postgresql://"),
        ("u:hunter2", "expected postgresql://"),
        ("postgresql://u:hunter2@[::1/d", "expected postgresql://"),
        ("postgresql://u:hunter2@127.0.0.1:99999/d", "expected postgresql://"),
        ("postgresql://u:hunter2@h/d?sslmode=verify", "`sslmode` parameter must be one of: disable, allow"),
        ("postgresql://u:hunter2@h/d?sslmode=verify-full", '/.postgresql/root.crt" does not exist'),
        ("postgresql://:hunter2@h/d", "names no user"),
        ("postgresql://:hunter2@h/new", "names no user"),
    ],
)
async def test_a_bad_dsn_is_refused_without_its_password(dsn: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        error = KeyError("getpwuid(): uid not found: 54321")
        if "new" not in dsn:
            raise error
        raise OSError("No username set in the environment") from error  # since Python 3.13

    monkeypatch.setattr(getpass, "getuser", no_name)
    monkeypatch.delenv("PGUSER", raising=False)
    storage = PostgresStorage(dsn)
    with pytest.raises(ConfigError, match=said) as caught:
        await storage.open()
    assert "hunter2" not in f"{caught.value} {storage!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_record_locked_by_others_is_passed_over_by_purge(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        for n in range(10):
            await storage.create(f"{n}", b"x", 0.001)
        await asyncio.sleep(0.01)
        async with plain.transaction():
            await plain.execute(f"SELECT 1 FROM {table_of(storage)} WHERE key = '3' FOR UPDATE")
            assert await storage.purge_expired() == 9
        assert await storage.purge_expired() == 1


async def test_purge_and_clear_log_their_batches(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sessioncore.storage.postgres")
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        fill = (
            f"INSERT INTO {table_of(storage)} SELECT ('a:' || n)::bytea, 'u', n, now() + $1::interval, 'x'"
            " FROM generate_series(1, 2500) AS n"
        )
        await plain.execute(fill.replace("$1", "'-1 s'"))
        assert await storage.purge_expired() == 2500
        assert [record.args for record in caplog.records] == [(1000,), (2000,), (2500,)]
        caplog.clear()
        await plain.execute(fill.replace("$1", "'1 h'"))
        await storage.create("b", b"x", 100)
        assert await storage.clear("a:") == 2500
        assert [record.args for record in caplog.records] == [(1000,), (2000,), (2500,), (2500,)][: len(caplog.records)]
        assert len(caplog.records) >= 3
        assert await storage.load("b") is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": timedelta()}, "above zero"), ({"timeout": 5.0}, "timedelta"),
        ({"max_connections": 0}, "at least 1"), ({"max_connections": 5.0}, "whole number"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_cannot_work_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PostgresStorage("postgresql://localhost", **options)


async def test_a_tombstone_that_leads_to_no_key_is_unreadable(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        await made(storage, "a", b"1", 100)
        await plain.execute(f"UPDATE {table_of(storage)} SET moved_to = '\\xff' WHERE key = 'a'")
        assert await storage.watch(["a"], pytest.fail) == [Unreadable()]
        await storage.confirm()
        assert await storage.delete("a") == 0
