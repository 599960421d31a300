"""What happens when the connection, the server or the machine fails: real servers, real faults."""

import asyncio
import gc
import signal
import time
from contextlib import aclosing, suppress
from datetime import timedelta

import anyio
import pytest
from servers.redis_server import Server, free_port, one_server, pair
from tests.storage.redis_rig import SECOND, storage_at
from tests.storage.rigs import answered, made, record_at, version_of
from tests.tcp_proxy import proxy_to
from tests.turns import comes_true

from sessioncore import SessionConfig, SessionStore
from sessioncore._errors import StorageUnavailable, WritesRefused
from sessioncore.storage import Stored
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.connection._waiting import cancel_and_wait

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]


@pytest.mark.proves("P3")
async def test_kill_9_and_restart_under_load_loses_nothing_that_was_acknowledged() -> None:
    with one_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with storage_at(server.port) as storage:
            acknowledged: dict[str, int] = {}
            stopping = False

            async def write(number: int) -> None:
                turn = 0
                while not stopping:
                    key, turn = f"{number}:{turn}", turn + 1
                    try:
                        version = await made(storage, key, key.encode(), 1000, owner=f"u{number}")
                        acknowledged[key] = version
                        await storage.load(key)
                    except StorageUnavailable:
                        await asyncio.sleep(0.01)

            writers = [asyncio.create_task(write(number)) for number in range(20)]
            for _ in range(3):
                enough = len(acknowledged) + 100
                await comes_true(lambda: len(acknowledged) >= enough)  # noqa: B023 - awaited immediately
                server.kill()
                await asyncio.to_thread(server.start)
                await answered(storage.check)
            stopping = True
            await asyncio.gather(*writers)
            assert len(acknowledged) >= 300
            for key, version in acknowledged.items():
                stored = await record_at(storage, key)
                assert (stored.data, stored.version) == (key.encode(), version)


@pytest.mark.proves("P7", "AT-104")
async def test_a_black_hole_is_noticed_in_bounded_time_and_left(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=timedelta(seconds=0.8)) as storage:
        at = await made(storage, "k")
        proxy.swallow = True
        start = time.monotonic()
        results = await asyncio.gather(
            *(storage.load("k") for _ in range(10)),
            storage.replace("k", b"new", 100, version=at),
            return_exceptions=True,
        )
        assert time.monotonic() - start < 5  # one after the other they would take nine seconds
        assert {type(result) for result in results} == {StorageUnavailable}
        proxy.swallow = False
        await answered(storage.check)
        assert await storage.load("k") is not None
        assert proxy.open_now == 1


@pytest.mark.proves("AT-104")
async def test_a_reset_in_mid_reply_fails_writes_and_repeats_reads(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        at = await made(storage, "k", b"x" * 3000)
        await storage.replace("k", b"", 1000, version=0)  # a conflict: from here on the server knows the script
        proxy.cut_after = 1000
        loads = await asyncio.gather(*(storage.load("k") for _ in range(20)))
        assert all(isinstance(stored, Stored) and stored.data == b"x" * 3000 for stored in loads)
        assert proxy.connections == 2
        proxy.cut_after = 1
        with pytest.raises(StorageUnavailable) as caught:
            await storage.replace("k", b"new", 1000, version=at)
        assert caught.value.__cause__ is not None
        # Its outcome was unknown to the storage; the server had carried it out.
        assert (await record_at(storage, "k")).data == b"new"


@pytest.mark.proves("AT-53")
async def test_a_write_whose_reply_was_lost_is_not_sent_again(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        await made(storage, "other", owner="u")
        before = calls_of(server)
        proxy.cut_after = 0
        with pytest.raises(StorageUnavailable):
            await storage.create("k", b"data", 100)
        await storage.check()
        proxy.cut_after = 0
        with pytest.raises(StorageUnavailable):
            await storage.create("k2", b"data", 100, owner="u")
        assert calls_of(server) == before + 2
        assert await storage.load("k") is not None


def calls_of(server: Server) -> int:
    stats = server.do("INFO", "commandstats")
    # A SET inside a script counts as a SET.
    return int(stats["cmdstat_set"]["calls"])


@pytest.mark.proves("AT-62")
async def test_a_deletion_waits_for_the_replicas_that_were_asked_for() -> None:
    with pair() as (master, replica):
        async with (
            storage_at(master.port, wait_replicas=1, wait_timeout=timedelta(seconds=5)) as patient,
            storage_at(master.port, wait_replicas=1, wait_timeout=SECOND / 10) as storage,
            storage_at(master.port) as plain,
        ):
            await made(storage, "a", owner="u")
            await made(storage, "b", owner="u")
            assert await patient.delete("a") == 1
            assert replica.do("EXISTS", "a") == 0
            replica.signal(signal.SIGSTOP)
            try:
                with pytest.raises(WritesRefused, match="0 of 1 replicas"):
                    await storage.delete("b")
                await SessionStore(SessionConfig(storage=storage)).start()  # goes on, as on any WritesRefused
                # The master has deleted it nevertheless, and the wait does not hold up other calls.
                assert await plain.load("b") is None
                assert await storage.load("b") is None
            finally:
                replica.signal(signal.SIGCONT)
            # Another delete waits for the replicas again: it finds nothing, and confirms the first one.
            assert await patient.delete("b") == 0
            assert replica.do("EXISTS", "b") == 0


async def test_the_time_limit_follows_the_client(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, socket_timeout=0.2) as storage:
        await storage.open()
        proxy.swallow = True
        with pytest.raises(StorageUnavailable, match="has not answered"):
            async with asyncio.timeout(SECOND.total_seconds()):
                await storage.load("k")


@pytest.mark.proves("AT-109", "ASVS 15.4.2")
async def test_a_server_that_is_killed_while_a_record_moves_keeps_one_key() -> None:
    """Like a login just before a crash: either the old ID is valid or the new one, never none and never both."""

    async def move(storage: RedisStorage, turn: int, moved: list[int]) -> None:
        version = await made(storage, f"{turn}:0", owner="u")
        with suppress(StorageUnavailable):
            while True:
                old, new = (f"{turn}:{len(moved) + n}" for n in (0, 1))
                version = version_of(await storage.move(old, new, b"data", 1000, version=version, owner="u"))
                moved.append(version)

    with one_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with storage_at(server.port) as storage:
            for turn in range(5):
                moved: list[int] = []
                moving = asyncio.create_task(move(storage, turn, moved))
                while len(moved) < 20 + turn:  # noqa: ASYNC110 - moves come one by one
                    await asyncio.sleep(0)
                server.kill()
                await moving
                await asyncio.to_thread(server.start)
                await answered(storage.check)
                keys = [f"{turn}:{number}" for number in range(len(moved) + 2)]
                [live] = [key for key in keys if isinstance(await storage.load(key), Stored)]
                assert live in keys[-2:]
                assert await storage.owned_keys("u") == [live]
                assert await storage.delete(live) == 1


# -- how often it connects, and how long it waits


async def test_a_server_that_ends_every_connection_is_not_connected_to_for_each_call(server: Server) -> None:
    """Between two attempts to connect there is a pause of up to half a second; meanwhile calls fail immediately."""
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        began, told = time.monotonic(), ""
        for _ in range(200):
            server.do("CLIENT", "KILL", "TYPE", "normal")
            try:
                await storage.create("k", b"", 10)
            except StorageUnavailable as exc:
                told += str(exc)
        assert "there is no connection (the server closed the connection)" in told
        assert proxy.connections <= 15 + 3 * (time.monotonic() - began)


async def test_a_cluster_that_never_answered_is_not_asked_for_its_map_for_each_call() -> None:
    async with proxy_to(free_port()) as proxy, storage_at(proxy.port, "redis+cluster") as storage:
        began = time.monotonic()
        for _ in range(200):
            with pytest.raises(StorageUnavailable, match="closed the connection"):
                await storage.load("k")
        assert proxy.connections <= 1 + 10 * (time.monotonic() - began)


async def test_a_handshake_that_is_never_answered_is_given_up(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=SECOND / 2) as storage:
        proxy.swallow = True
        with pytest.raises(StorageUnavailable):
            async with asyncio.timeout(20):
                await storage.load("k")
        proxy.swallow = False
        await answered(storage.check)


async def test_callers_of_one_round_trip_that_give_up_together_leave_nothing_behind(server: Server) -> None:
    logged: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=SECOND / 2) as storage:
        await storage.confirm()
        one, *others = [asyncio.create_task(storage.confirm()) for _ in range(3)]
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.gather(*others)
        proxy.half_open = 1
        with anyio.move_on_after(0.1) as limit:
            await asyncio.gather(*(storage.confirm() for _ in range(3)))
        assert limit.cancelled_caught
        proxy.drop()
        await answered(storage.check)
        await storage.confirm()
    gc.collect()
    await asyncio.sleep(0)
    assert logged == []


ODD_REPLIES = (b">2\r\n$10\r\ninvalidate\r\n*1\r\n:1\r\n", b"%1\r\n*0\r\n:1\r\n", b">0\r\n", b"?\r\n")


@pytest.mark.parametrize(
    ("scheme", "asked", "broken"),
    [
        *(("redis", b"NX", odd) for odd in ODD_REPLIES),
        ("redis", b"GET", b"$-5\r\n"),
        ("redis+cluster", b"SLOTS", b"*1\r\n:5\r\n"),
    ],
)
async def test_a_server_that_breaks_the_protocol_is_no_server_and_nothing_is_logged(
    scheme: str, asked: bytes, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(1000):
            writer.write(broken if asked in command else b"+OK\r\n" * command.count(b"*"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}?protocol=2&socket_timeout=1"
        async with aclosing(RedisStorage.from_url(url)) as storage:
            with pytest.raises(StorageUnavailable, match=r"broke the protocol|map of the cluster could not be fetched"):
                await (storage.load("a") if asked == b"GET" else storage.create("a", b"", 10))
    assert not caplog.records, "asyncio logs what a protocol raises"


async def test_what_a_task_raises_when_it_is_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ConnectionResetError

    tasks = [asyncio.create_task(fail())]
    await asyncio.sleep(0)
    await cancel_and_wait(tasks.pop())
    gc.collect()
    assert not caplog.records
