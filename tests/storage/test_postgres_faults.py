"""PostgreSQL in trouble: calls raise only StorageUnavailable, nothing is half done, and service resumes."""

import asyncio
import gc
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
import pytest
import trustme
from servers.postgres_server import PostgresServer
from tests.numbers import scaled
from tests.storage.postgres_rigs import (
    alter_system,
    backends,
    connection,
    driver,
    new_table,
    opened,
    proxied,
    table_of,
    writing,
)
from tests.storage.rigs import answered, record_at
from tests.tcp_proxy import proxy_to
from tests.turns import comes_true, watched

from sessioncore._errors import StorageUnavailable
from sessioncore.storage import Stored
from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.mark.proves("P3")
async def test_a_killed_server_loses_nothing_acknowledged_and_service_resumes(postgres: PostgresServer) -> None:
    async with connection(postgres.dsn()) as plain:
        await plain.execute("CHECKPOINT")  # so that there is little to recover
    async with opened(postgres.dsn()) as storage, writing(storage) as (writers,):
        for _ in range(2):
            await writers.progress()
            await asyncio.to_thread(postgres.kill)
            failures = len(writers.failures)
            await comes_true(lambda: len(writers.failures) >= failures + 8)  # noqa: B023 - awaited immediately
            await asyncio.to_thread(postgres.start)
            assert await writers.progress() < 4
        await writers.assert_kept()
    assert all(failure.__cause__ is not None for failure in writers.failures)


async def test_terminated_connections_are_replaced(postgres: PostgresServer, postgres_dsn: str) -> None:
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    victims = "FROM pg_stat_activity WHERE application_name = 'victim'"
    terminate = f"SELECT pg_terminate_backend(pid) {victims}"
    async with opened(f"{postgres_dsn}?application_name=victim") as storage, connection(postgres.dsn()) as plain:
        async with writing(storage) as (writers,):
            for _ in range(scaled(20)):
                await writers.progress()
                await plain.execute(terminate)
                assert await writers.progress() < 4
        # The next call does not even notice that idle connections were terminated.
        idle = [row["pid"] for row in await plain.fetch(f"SELECT pid {victims}")]
        await plain.execute(terminate)
        while await plain.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)", idle):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with connection(postgres_dsn):
            pass  # by now a pooler has told its clients
        assert await storage.load(writers.acknowledged[0][0]) is not None
    gc.collect()
    await asyncio.sleep(0)
    assert logged == []


def keepalives(port: int) -> list[tuple[int, int]]:
    """Return two options of each socket of this process that has this port: keepalive, and the user timeout."""
    found = list[tuple[int, int]]()
    for file in Path("/proc/self/fd").iterdir():
        if file.is_socket():
            with socket.socket(fileno=os.dup(int(file.name))) as one:
                if one.family == socket.AF_INET and one.getsockname()[1] == port:
                    user_timeout = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                    found.append((one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), user_timeout))
    return found


async def test_idle_connections_are_kept_alive(postgres: PostgresServer) -> None:
    async with opened(f"{postgres.dsn()}?application_name=idle"), connection(postgres.dsn()) as plain:
        port = await plain.fetchval("SELECT client_port FROM pg_stat_activity WHERE application_name = 'idle'")
        assert keepalives(port) == [(1, 90_000)]


async def test_a_locked_row_costs_only_the_requests_of_its_session(postgres: PostgresServer, postgres_dsn: str) -> None:
    async with (
        opened(postgres_dsn, timeout=timedelta(seconds=0.6), max_connections=2) as storage,
        connection(postgres.dsn()) as plain,
    ):
        at = await storage.create("a", b"before", 100) or 0
        other = await storage.create("b", b"x", 100) or 0
        async with plain.transaction():
            await plain.execute(f"SELECT 1 FROM {table_of(storage)} WHERE key = 'a' FOR UPDATE")
            start = time.monotonic()
            calls = [call for _ in range(4) for call in (
                storage.load("a", renew=100), storage.replace("a", b"after", 100, version=at), storage.touch("a", 100),
                storage.move("a", "c", b"after", 100, version=at), storage.delete("a"),
            )]  # fmt: skip
            stuck = asyncio.gather(*calls, return_exceptions=True)
            served = 0
            while not stuck.done():
                replaced = await storage.replace("b", b"x", 100, version=other)
                assert isinstance(replaced, int)
                other, served = replaced, served + 1
                assert (await record_at(storage, "a")).data == b"before"
                await asyncio.sleep(0.01)
            assert {type(outcome) for outcome in await stuck} == {StorageUnavailable}
            assert served > 5
            assert time.monotonic() - start < 10  # one after the other they would take twelve seconds
        assert isinstance(await storage.replace("a", b"after", 100, version=at), int)


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
async def test_a_timeout_of_the_server_is_unavailable(postgres: PostgresServer, setting: str) -> None:
    async with (
        driver.create_pool(postgres.dsn(), min_size=1, server_settings={setting: "300"}) as pool,
        opened(pool) as storage,
        connection(postgres.dsn()) as plain,
        plain.transaction(),
    ):
        await storage.create("a", b"x", 100)
        await plain.execute(f"SELECT 1 FROM {table_of(storage)} WHERE key = 'a' FOR UPDATE")
        with pytest.raises(StorageUnavailable, match=f"raise {setting}"):
            await storage.touch("a", 100)


@pytest.mark.proves("P7", "AT-104")
async def test_a_black_hole_ends_in_time_and_costs_no_connection_for_good(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sessioncore.storage.postgres._driver._RELEASE_TIMEOUT", 0.1)
    async with proxied(postgres, timeout=timedelta(seconds=0.8), max_connections=4) as (storage, proxy):
        await storage.create("a", b"x", 100)
        proxy.swallow = True
        with anyio.move_on_after(0.1):  # a scope keeps cancelling, even while the connection is released
            await storage.load("a")
        await asyncio.sleep(0.2)
        gc.collect()
        assert caplog.records == []  # no "exception was never retrieved"
        start = time.monotonic()
        results = await asyncio.gather(*(storage.load("a") for _ in range(12)), return_exceptions=True)
        assert {type(result) for result in results} == {StorageUnavailable}
        assert time.monotonic() - start < 9  # one after the other they would take longer
        proxy.swallow = False
        results = await asyncio.gather(*(storage.load("a") for _ in range(12)))
        assert None not in results


async def test_a_process_that_was_stopped_takes_the_replies_that_came_meanwhile(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn(), timeout=timedelta(seconds=0.4)) as storage:
        await storage.create("k", b"data", 60)
        for turns in range(4):  # stopped before the statement is sent, and after it
            loads = [asyncio.ensure_future(storage.load("k")) for _ in range(20)]  # half of them wait for a connection
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.95)  # noqa: ASYNC251 - nothing runs, as when the process is stopped
            assert None not in await asyncio.gather(*loads)
    for turns in range(1, 5):  # stopped while it connects
        async with aclosing(PostgresStorage(postgres.dsn(), timeout=timedelta(seconds=0.4))) as storage:
            opening = asyncio.ensure_future(storage.open())
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.95)  # noqa: ASYNC251
            await opening


@pytest.mark.parametrize("prepared", [True, False])
async def test_calls_cancelled_on_new_connections_leave_no_trace(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, *, prepared: bool
) -> None:
    caplog.set_level("INFO", "sessioncore")  # the level at which missing prepared statements are logged
    seed = random.Random(7)

    async def call() -> None:
        with anyio.move_on_after(seed.random() * 0.03):
            await storage.load("a")

    for _ in range(scaled(20)):
        async with opened(postgres.dsn(), max_connections=20, prepared_statements=prepared) as storage:
            await asyncio.gather(*(call() for _ in range(60)))
            assert await storage.create("a", b"x", 100)
    gc.collect()
    await asyncio.sleep(0.1)
    assert caplog.records == []  # nor "exception was never retrieved" or "an active transaction"


@pytest.mark.parametrize("closed", [False, True])
async def test_an_opening_cut_off_anywhere_leaves_no_connection(postgres: PostgresServer, *, closed: bool) -> None:
    for suspension in range(8):
        storage = PostgresStorage(f"{postgres.dsn()}?application_name=cut", table=new_table())
        looks, closings = iter(range(8)), list[asyncio.Task[None]]()

        def look() -> None:
            if next(looks, None) == suspension:  # noqa: B023 - called before the next turn
                closings.append(asyncio.create_task(storage.aclose())) if closed else opening.cancel()  # noqa: B023

        opening = asyncio.ensure_future(watched(storage.open, look))
        await asyncio.gather(opening, return_exceptions=True)
        await asyncio.gather(*closings)
        await storage.open()
        assert await storage.create("a", b"x", 100)
        await storage.aclose()
    with anyio.fail_after(5):  # a backend ends some time after its connection
        while await backends(postgres, "cut"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_connections_broken_off_under_load_are_replaced(postgres: PostgresServer) -> None:
    async with proxied(postgres, timeout=timedelta(seconds=2)) as (storage, proxy), writing(storage) as (writers,):
        for _ in range(5):
            await writers.progress()
            proxy.reset()
            assert await writers.progress() < 4


@pytest.fixture
async def tls(postgres: PostgresServer, tmp_path: Path) -> AsyncGenerator[Path]:
    """Let the server speak TLS for a while; return the certificate of its CA."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    postgres.add_file("server.key", issued.private_key_pem.bytes())
    postgres.add_file("server.crt", issued.cert_chain_pems[0].bytes())
    async with connection(postgres.dsn()) as plain:
        await alter_system(plain, "ssl", "on")
        yield tmp_path / "ca.pem"
        await alter_system(plain, "ssl", "off")


async def test_no_server_at_all_is_unavailable_and_may_come_later(postgres: PostgresServer) -> None:
    postgres.kill()
    storage = PostgresStorage(postgres.dsn(), timeout=timedelta(seconds=5))
    for call in (storage.open, storage.check):
        with pytest.raises(StorageUnavailable, match="look at the server, its address") as caught:
            await call()
        assert isinstance(caught.value.__cause__, OSError)
    postgres.start()
    await storage.check()
    await storage.aclose()


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        pytest.param(1, "look at the server", id="the server is away"),
        pytest.param(2, "takes no writes", id="no host of several takes writes"),
    ],
)
async def test_an_outage_costs_few_attempts_to_connect(postgres: PostgresServer, hosts: int, said: str) -> None:
    async with proxy_to(postgres.port) as proxy:
        several = ",".join([f"127.0.0.1:{proxy.port}"] * hosts)
        options = "?default_transaction_read_only=on" if hosts > 1 else ""
        dsn = f"postgresql://tester@{several}/postgres{options}"
        async with aclosing(PostgresStorage(dsn, table=new_table())) as storage:
            if hosts == 1:
                await storage.open()
                proxy.switch(1)
                proxy.drop()

            async def write() -> None:
                for _ in range(100):
                    with pytest.raises(StorageUnavailable, match=said) as caught:
                        await storage.create("a", b"x", 100)
                    assert caught.value.__cause__ is not None

            began, before = time.monotonic(), proxy.connections
            await asyncio.gather(*(write() for _ in range(8)))
            # Eight at the same time, then some with short pauses before them, then two a second.
            assert proxy.connections - before <= hosts * (8 + 5 + 2 * (time.monotonic() - began) + 1)
            if hosts == 1:
                proxy.switch(postgres.port)
                assert await answered(lambda: storage.create("a", b"x", 100), 10) is not None


@pytest.mark.parametrize("given", [False, True])
async def test_calls_share_the_open_connections_while_the_server_accepts_no_more(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, *, given: bool
) -> None:
    role = f"few_{new_table()}"
    dsn = f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres"
    async with connection(postgres.dsn()) as plain, AsyncExitStack() as opened_here:
        await plain.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 3; GRANT ALL ON SCHEMA public TO {role}")
        source = await opened_here.enter_async_context(driver.create_pool(dsn, min_size=0)) if given else dsn
        storage = await opened_here.enter_async_context(opened(source))
        for _ in range(3):
            assert {*await asyncio.gather(*(storage.load("a") for _ in range(60)))} == {None}
    assert ["share those that are open" in record.getMessage() for record in caplog.records] == [True]


async def test_two_attempts_to_connect_that_fail_hold_no_other_up(postgres: PostgresServer) -> None:
    async with proxied(postgres) as (storage, proxy):
        proxy.drop()
        proxy.cuts = 2
        while proxy.cuts:
            with pytest.raises(StorageUnavailable):
                await storage.load("a")
        assert await storage.load("a") is None


async def test_a_certificate_that_is_not_trusted_is_unavailable(
    postgres: PostgresServer, tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGSSLMODE")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    dsn = f"{postgres.dsn()}?sslmode=verify-full&sslrootcert="
    async with opened(f"{dsn}{tls}") as storage:
        await storage.check()
    with pytest.raises(StorageUnavailable, match=r"certificates.*sslrootcert=") as caught:
        await PostgresStorage(f"{dsn}{tmp_path / 'other.pem'}").open()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_calls_share_the_open_connections_when_the_certificate_is_not_trusted_any_more(
    postgres: PostgresServer, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGSSLMODE")
    async with opened(f"{postgres.dsn()}?sslmode=verify-full&sslrootcert={tls}") as storage:
        trustme.CA().cert_pem.write_to_path(tls)
        assert {*await asyncio.gather(*(storage.load("a") for _ in range(60)))} == {None}


@pytest.mark.parametrize(
    ("wrong", "said", "cause"),
    [
        ("nowhere", "database of the URL", asyncpg.InvalidCatalogNameError),
        ("postgres?sslmode=verify-ca&sslrootcert=/none", "certificates.*sslrootcert=", FileNotFoundError),
        ("postgres?sslmode=verify-ca&sslrootcert=/", "certificates.*sslrootcert=", IsADirectoryError),
    ],
)
async def test_the_error_says_what_is_wrong_in_the_url_and_does_not_quote_the_password(
    postgres: PostgresServer, wrong: str, said: str, cause: type[Exception]
) -> None:
    storage = PostgresStorage(f"postgresql://tester:hunter2@127.0.0.1:{postgres.port}/{wrong}")
    with pytest.raises(StorageUnavailable, match=said) as caught:
        await storage.check()
    assert isinstance(caught.value.__cause__, cause)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


async def test_the_error_names_a_wrong_or_missing_password_and_does_not_quote_it(postgres: PostgresServer) -> None:
    methods = {"by_scram": "scram-sha-256", "by_md5": "md5", "by_password": "password", "barred": "reject"}
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    at = f"@127.0.0.1:{postgres.port}/postgres"
    async with connection(postgres.dsn()) as plain:
        rules.write_text("".join(f"host all {role} all {method}\n" for role, method in methods.items()) + before)
        loaded = "SELECT pg_conf_load_time()"
        old = await plain.fetchval(loaded)
        await plain.execute("SELECT pg_reload_conf()")
        while await plain.fetchval(loaded) == old:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for role in methods:
            await plain.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
            for login in (f"{role}:hunter2", role, "nobody:hunter2"):
                storage = PostgresStorage(f"postgresql://{login}{at}")
                with pytest.raises(StorageUnavailable, match=r"user and password.*URL") as caught:
                    await storage.check()
                assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"
            if role != "barred":
                storage = PostgresStorage(f"postgresql://{role}:right{at}", create_table=False)
                await storage.open()
                await storage.aclose()
        rules.write_text(before)
        await plain.execute("SELECT pg_reload_conf()")


async def test_cancelled_calls_mix_up_nothing_and_leak_no_connection(postgres: PostgresServer) -> None:
    """Fifty users make calls (2,000 in a full run) that are cancelled at random moments: none sees another's data."""
    dsn = f"{postgres.dsn()}?application_name=cancelled"
    async with (
        # Connected beforehand: asyncpg logs an error of its own when it is cancelled while it connects.
        driver.create_pool(dsn, min_size=8, max_size=8) as pool,
        opened(pool) as storage,
        connection(postgres.dsn()) as plain,
    ):
        for user in range(50):
            await storage.create(f"{user}", b"%d:0" % user, 1000, owner=f"{user}")
        dice = random.Random(4)

        async def one_call(user: int, moment: float) -> None:
            try:
                async with asyncio.timeout(moment):
                    stored = await record_at(storage, f"{user}", renew=dice.choice([None, 1000.0]))
                    assert stored.data.startswith(b"%d:" % user)
                    data = b"%d:%d" % (user, dice.randrange(1000))
                    result = await storage.replace(f"{user}", data, 1000, version=stored.version, owner=f"{user}")
                    assert isinstance(result, int) or (
                        isinstance(result, Stored) and result.data.startswith(b"%d:" % user)
                    )
            except TimeoutError:
                pass

        for _ in range(scaled(40)):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(50):
                    tasks.create_task(one_call(dice.randrange(50), dice.random() * 0.03))
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cancelled'"
        assert await plain.fetchval(count) <= 8
        for user in range(50):
            assert (await record_at(storage, f"{user}")).data.startswith(b"%d:" % user)
            assert await storage.owned_keys(f"{user}") == [f"{user}"]


@pytest.mark.proves("AT-108")
async def test_five_hundred_calls_at_once_wait_for_a_connection(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn(), max_connections=4) as storage:
        await storage.create("a", b"x", 100)
        assert None not in await asyncio.gather(*(storage.load("a") for _ in range(500)))
