"""Which clients, URLs, event loops and server settings a RedisStorage accepts, and how it refuses the others."""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as blocking
import trustme
import uvloop
from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster
from redis.credentials import StreamingCredentialProvider
from servers.redis_server import Server, ServerExited, free_port, one_server
from tests.storage.redis_rig import SECOND, client_of, storage_at, walk
from tests.storage.rigs import made

from sessioncore import Stored
from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.client._url import client_from

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]


@pytest.mark.parametrize(("url", "protocol"), [("redis://h", 3), ("redis://h?protocol=2", 2)])
def test_a_url_means_resp3_unless_it_says_otherwise(url: str, protocol: int) -> None:
    """The default of redis-py does not matter: in version 6 it is 2, in which a server cannot push."""
    assert int(client_from(url, {}).connection_pool.connection_kwargs["protocol"]) == protocol  # "2" in version 6


class Wrapper:
    """A method as OpenTelemetry and Datadog wrap it: each access makes another object."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def __get__(self, client: object, kind: type) -> Any:
        return partial(self._method, *(() if client is None else (client,)))


def timed(method: Any) -> Any:
    """A method as it is wrapped by a decorator that does not know about coroutines."""

    def call(*args: Any, **options: Any) -> Any:
        return method(*args, **options)

    return call


@pytest.mark.parametrize("wrap", [Wrapper, timed])
async def test_an_instrumented_client_is_one_of_redis_pys_own(
    server: Server, monkeypatch: pytest.MonkeyPatch, wrap: Any
) -> None:
    redis: Any = Redis
    monkeypatch.setattr(redis, "execute_command", wrap(redis.execute_command))
    async with storage_at(server.port) as storage:
        await walk(storage)
        assert storage.notices_within is None  # the server reports changes on the storage's own connection


async def once(storage: RedisStorage) -> None:
    await storage.open()
    await walk(storage)
    await storage.aclose()


async def test_a_client_whose_connections_are_not_redis_pys_own_says_that_it_serves_one_loop(server: Server) -> None:
    class Own(Connection):
        pass

    storage = RedisStorage.from_url(server.url, connection_class=Own, max_connections=2)
    await walk(storage)
    await asyncio.gather(*(storage.load("k") for _ in range(20)))  # they wait for a connection
    with pytest.raises(StorageError, match="use a client and a storage for each loop"):
        await asyncio.to_thread(asyncio.run, walk(storage))
    await storage.aclose()
    await asyncio.to_thread(asyncio.run, once(storage))
    await once(storage)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocol_versions_serve(server: Server, protocol: int) -> None:
    client = client_of(server.port, protocol=protocol, db=3, client_name="tests")
    storage = RedisStorage(client)
    await walk(storage)
    await made(storage, "k")
    assert [info["name"] for info in await client.client_list() if info["db"] == "3"].count("tests") >= 1
    await storage.aclose()
    assert await client.exists("k")  # the client is the caller's, so it is still open
    await client.aclose()


async def test_the_callers_pool_is_not_used_up(server: Server) -> None:
    pool = BlockingConnectionPool(host="127.0.0.1", port=server.port, max_connections=1, timeout=1)
    client: Any = Redis(connection_pool=pool)
    storage = RedisStorage(client)
    await asyncio.gather(walk(storage), *(client.get("x") for _ in range(20)))
    await storage.aclose()
    await client.aclose()
    await pool.aclose()


async def test_a_unix_socket_serves(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with one_server("--unixsocket", str(path)):
        async with aclosing(RedisStorage.from_url(f"unix://{path}?db=1")) as storage:
            await walk(storage)


@asynccontextmanager
async def with_tls(folder: Path) -> AsyncGenerator[tuple[RedisStorage, int, Server]]:
    authority = trustme.CA()
    for name, until in (("expired", datetime(2020, 1, 1)), ("valid", None), ("server", None)):
        certificate = authority.issue_cert("127.0.0.1", not_after=until)
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", "server.pem", "--tls-key-file", "server.pem")
    with ExitStack() as stack:
        try:
            files = (str(folder / option) if option == "server.pem" else option for option in options)
            server = stack.enter_context(one_server(*files, "--tls-auth-clients", "no"))
        except ServerExited:
            pytest.skip("this server was built without TLS")
        async with storage_at(port, "rediss", ssl_ca_certs=str(folder / "ca.pem")) as storage:
            yield storage, port, server


async def test_tls_serves_and_carries_large_records(tmp_path: Path) -> None:
    async with with_tls(tmp_path) as (storage, _, _):
        await walk(storage)
        await made(storage, "large", b"x" * 300_000)
        loaded = await asyncio.gather(*(storage.load("large") for _ in range(20)))
        assert all(isinstance(stored, Stored) and len(stored.data) == 300_000 for stored in loaded)


async def test_the_error_says_what_is_wrong_with_tls(tmp_path: Path, server: Server) -> None:
    async with with_tls(tmp_path) as (trusted, port, tls):
        await trusted.check()
        for at, scheme, options, said in (
            (port, "rediss", {}, "CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs"),
            (port, "rediss", {"ssl_ca_certs": str(tmp_path / "none")}, "ssl_ca_certs.* cannot be read"),
            (port, "redis", {}, "if it speaks TLS, write rediss"),
            (server.port, "rediss", {"timeout": SECOND / 2}, "does not speak TLS.*write redis, not rediss"),
            (server.port, "rediss+cluster", {"timeout": SECOND / 2}, "does not speak TLS.*write redis, not rediss"),
        ):
            async with storage_at(at, scheme, **options) as storage:
                with pytest.raises(StorageUnavailable, match=said):
                    await storage.check()
        elsewhere = RedisStorage.from_url(f"rediss://localhost:{port}", ssl_ca_certs=str(tmp_path / "ca.pem"))
        with pytest.raises(
            StorageUnavailable, match=r"not valid for 'localhost'.*by a name that is in its certificate"
        ):
            await elsewhere.check()
        await elsewhere.aclose()
        tls.do("CONFIG", "SET", "tls-ca-cert-file", str(tmp_path / "ca.pem"))
        tls.do("CONFIG", "SET", "tls-auth-clients", "yes")
        for protocol, certificate, said in (
            ("TLSv1.2", "valid", "may want a certificate of the client"),
            ("TLSv1.3", "valid", "may want a certificate of the client"),
            ("TLSv1.2", "expired", "has expired.*renew its certificate"),
        ):
            (tmp_path / "server.pem").write_bytes((tmp_path / f"{certificate}.pem").read_bytes())
            tls.do("CONFIG", "SET", "tls-protocols", protocol)  # it reads the files again
            async with storage_at(port, "rediss", ssl_ca_certs=str(tmp_path / "ca.pem")) as storage:
                with pytest.raises(StorageUnavailable, match=said):
                    await storage.check()


class Token:
    """What a provider hands out: a user, who must have the password "word"."""

    def __init__(self, user: str) -> None:
        self.user = user

    def try_get(self, key: str) -> str:
        return {"oid": self.user}[key]

    def get_value(self) -> str:
        return "word"


class Streaming(StreamingCredentialProvider):
    """A provider that keeps only the last callback, as the one for Entra ID does."""

    def __init__(self) -> None:
        self.user = "first"
        self.callback: Any = None

    def get_credentials(self) -> tuple[str, str]:
        return self.user, "word"

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()

    def on_next(self, callback: Any) -> None:
        self.callback = callback

    def on_error(self, callback: Any) -> None: ...

    def is_streaming(self) -> bool:
        return True

    async def renew(self, user: str) -> None:
        self.user = user
        await self.callback(Token(user))


@pytest.mark.parametrize("kind", [Redis, RedisCluster])
async def test_renewed_credentials_are_used_on_open_connections(kind: Any, server: Server, nodes: list[Server]) -> None:
    servers = nodes if kind is RedisCluster else [server]
    for each in servers:
        for user in ("first", "second"):
            each.do("ACL", "SETUSER", user, "reset", "on", ">word", "~*", "+@all")
    provider = Streaming()
    async with client_of(servers[0].port, kind, credential_provider=provider) as client:
        storage = RedisStorage(client)
        for number in range(50):
            await storage.delete(f"k{number}")
        assert await client.ping()
        ours = {each.port: ids_of(each, "first", "evalsha") for each in servers}
        assert [len(ids) for ids in ours.values()] == [1] * len(servers)
        await provider.renew("second")
        renewed = {each.port: ids_of(each, "second", "auth") for each in servers}
        assert all(renewed[port] >= ours[port] for port in ours)
        assert renewed != ours  # it has the client's own connections as well
        for each in servers:
            each.do("ACL", "DELUSER", "first")  # closes the connections that are still this user's
        await asyncio.gather(*(made(storage, f"k{number}") for number in range(50)))
        await storage.aclose()


def ids_of(server: Server, user: str, last: str) -> set[str]:
    """The IDs of the connections that are logged in as `user`, and whose last command was `last`."""
    return {line["id"] for line in server.do("CLIENT LIST") if (line["user"], line["cmd"]) == (user, last)}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncio.CancelledError(), "was cancelled from within"),  # by a task that it shares with others, for example
        (ValueError("hunter2"), "failed with ValueError"),
    ],
)
async def test_a_credential_provider_that_fails_is_named_and_not_asked_all_the_time(
    error: BaseException, said: str, server: Server
) -> None:
    class Failing(Streaming):
        asked = 0

        async def get_credentials_async(self) -> tuple[str, str]:
            self.asked += 1
            raise error

    provider = Failing()
    async with (
        client_of(server.port, credential_provider=provider) as client,
        aclosing(RedisStorage(client)) as storage,
    ):
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match=f"{said}; look at .* credential provider") as caught:
                await asyncio.wait_for(storage.load("k"), 10)
            assert "hunter2" not in str(caught.value)
        assert provider.asked <= 3


@pytest.mark.parametrize("kind", [Redis, RedisCluster])
async def test_a_decoding_client_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="decode_responses"):
        RedisStorage(client_of(1, kind, decode_responses=True))


@pytest.mark.parametrize(
    "client",
    [None, 5, "redis://hunter2@host", Redis, blocking.Redis(), BlockingConnectionPool()],
    ids=["None", "5", "url", "class", "blocking", "pool"],
)
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigError, match="asyncio"):
        RedisStorage(client)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": timedelta(0)}, {"timeout": 5}, {"wait_replicas": -1}, {"wait_replicas": "1"},
        {"wait_timeout": timedelta(0), "wait_replicas": 1}, {"wait_timeout": 1.5},
        {"url": "redis+sentinel://127.0.0.1/main", "socket_timeout": "soon", "no_such_option": 1},
        {"url": "127.0.0.1:6379"}, {"url": "http://127.0.0.1"},
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"url": "redis://127.0.0.1", **options}
    with pytest.raises(ConfigError):
        RedisStorage.from_url(**given)


def test_loops_one_after_another_are_served(server: Server) -> None:
    storage = RedisStorage.from_url(server.url)
    for _ in range(3):
        asyncio.run(once(storage))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(once(storage))
    gc.collect()  # filterwarnings turns a warning about an open connection into an error


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks")
async def test_an_attempt_to_connect_that_fails_at_once_is_followed_by_others(tmp_path: Path) -> None:
    loop: Any = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - see above
    async with aclosing(RedisStorage.from_url(f"unix://{tmp_path / 'socket'}")) as storage:
        with pytest.raises(StorageUnavailable, match="No such file"):
            await storage.load("k")
        async with await asyncio.start_unix_server(lambda _, writer: writer.close(), tmp_path / "socket"):
            await asyncio.sleep(0.1)
            with pytest.raises(StorageUnavailable, match="closed the connection"):
                await storage.load("k")
    loop.set_task_factory(None)


@pytest.mark.proves("AT-111")
async def test_closing_lets_what_is_in_flight_end_and_refuses_the_rest(server: Server) -> None:
    storage = RedisStorage.from_url(server.url)
    await storage.check()
    writes = [asyncio.create_task(storage.create(f"k{n}", b"x" * 1000, 100)) for n in range(200)]
    await asyncio.sleep(0)
    await storage.aclose()
    await storage.aclose()
    assert None not in await asyncio.gather(*writes)
    with pytest.raises(StorageUnavailable, match="async with store"):
        await storage.load("k1")
    await storage.open()
    assert await storage.load("k1") is not None
    await storage.aclose()
    gc.collect()


async def test_keys_and_owners_that_utf_8_cannot_express_come_back(server: Server) -> None:
    async with storage_at(server.port) as storage:
        for text in ("a b\r\nc\x00", "\ud800 alone"):
            await made(storage, text, owner=text)
            assert await storage.owned_keys(text) == [text]
