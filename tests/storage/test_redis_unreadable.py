"""A value that this storage did not write is never a session, is never overwritten, and is reported."""

from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from servers.redis_server import Server
from tests.storage.redis_rig import Own, client_of

from sessioncore import EventKind, SessionConfig, SessionEvent, SessionNotFound, SessionStore
from sessioncore.storage import Unreadable
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]

GARBAGE = (b"", b"x", b"S\x01short", b"A\x01short", b"S\x02" + bytes(40), b"a text of some length that is not ours")


@pytest.mark.proves("AT-58", "AT-63")
@pytest.mark.parametrize("kind", [Redis, Own, RedisCluster])
async def test_a_foreign_value_is_unreadable_and_stays(kind: Any, server: Server, nodes: list[Server]) -> None:
    """The contract kit tests a record without an expiry, and more calls on one value."""
    port = nodes[0].port if kind is RedisCluster else server.port
    async with client_of(port, kind) as client, aclosing(RedisStorage(client)) as storage:
        await client.rpush("a list", "item")
        for number, value in enumerate(GARBAGE):
            await client.set(f"{number}", value)
            await client.set(f"{number} for a while", value, ex=700)
        for key in ("a list", *(f"{number}{life}" for number in range(len(GARBAGE)) for life in ("", " for a while"))):
            before = await client.dump(key)
            for renew in (None, 500, None):
                assert await storage.load(key, renew=renew) == Unreadable()
            assert await storage.replace(key, b"new", 10, version=0, owner="u") == Unreadable()
            for new_key in ("b", "c", "d", f"{{{key}}}"):  # on a cluster in other slots, and in the same one
                assert await storage.move(key, new_key, b"new", 10, version=0, owner="u") == Unreadable()
                assert await storage.load(new_key) is None
            assert await storage.create(key, b"new", 10) is None
            assert (await storage.touch(key, 10), await storage.delete(key)) == (False, 0)
            assert (await client.dump(key), await client.ttl(key) > 600) == (before, "while" in key)


@pytest.mark.proves("AT-58", "AT-63")
async def test_a_store_sends_the_event_corrupt_and_gives_no_session(server: Server) -> None:
    events: list[SessionEvent] = []
    storage = RedisStorage.from_url(server.url)
    config = SessionConfig(storage=storage, on_event=events.append)
    async with SessionStore(config) as store:
        session = await store.create({"a": 1})
        assert session.id is not None
        [key] = server.do("KEYS", "session:*")
        no_tombstone = ("SET", key, b"M\x01\xff", "EX", 100)
        for spoil in (("PERSIST", key), ("SET", key, "garbage"), no_tombstone, ("DEL", key), ("LPUSH", key, "x")):
            server.do(*spoil)
            events.clear()
            with pytest.raises(SessionNotFound):
                await store.get_by_id(session.id)
            kinds = [event.kind for event in events]
            assert kinds == [EventKind.UNKNOWN if spoil[0] == "DEL" else EventKind.CORRUPT], spoil
        assert server.do("TYPE", key) == b"list"
