"""All or nothing: if any one right is missing, or the index has another type, a call works or changes nothing."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias, cast

import pytest
from msgspec import structs
from redis import Redis
from servers.redis_server import Server
from tests.storage.redis_rig import storage_at
from tests.storage.rigs import made
from tests.storage.test_redis_acl import COMMANDS, rules

from sessioncore._errors import StorageError
from sessioncore.storage import Stored
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis._errors import RIGHTS as RIGHTS_TOLD
from sessioncore.storage.redis._errors import ForeignValue
from sessioncore.storage.redis.records import _scripts as scripts
from sessioncore.storage.redis.records._format import TOMBSTONE, unpack

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

SCRIPTS = [
    *structs.astuple(scripts.ON_ONE_SERVER),
    *structs.astuple(scripts.ON_A_CLUSTER),
    *(each for each in vars(scripts).values() if isinstance(each, scripts.Script)),
]
IN_SCRIPTS = {name.decode() for each in SCRIPTS for name in re.findall(rb"call\('([A-Z]+)'", each.text)}
CALLS_SEND = {"GET", "PTTL", "SET", "SCAN", "EVAL", "EVALSHA"}
OUTSIDE = CALLS_SEND | {"PING", "WAIT", "CLIENT|TRACKING", "CLIENT|CACHING"}  # what the storage sends outside scripts
RIGHTS = sorted(name.lower() for name in IN_SCRIPTS | CALLS_SEND)
ENDING = {"evalsha", "getrange", "unlink"}  # the rights without which nothing can be ended

ADA, BOB = "session:owner:ada", "session:owner:bob"
INDEX = f"{ADA}:sessioncore-index"
OTHER_TYPES: dict[str, tuple[str, ...]] = {
    "string": ("SET", INDEX, "x"), "list": ("RPUSH", INDEX, "x"), "hash": ("HSET", INDEX, "x", "y"),
    "set": ("SADD", INDEX, "x"), "stream": ("XADD", INDEX, "1-1", "x", "y"),
}  # fmt: skip

# In one trip, because the tests look at everything some thousand times.
LOOK = """
local said = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind, value = redis.call('TYPE', key).ok, nil
    if kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif kind == 'string' then value = redis.call('GET', key)
    else value = redis.call('DUMP', key) end
    said[#said + 1] = {key, kind, redis.call('PTTL', key), value}
end
return said
"""

Versions: TypeAlias = dict[str, int]
Call: TypeAlias = Callable[[RedisStorage, Versions], Coroutine[Any, Any, Any]]
World: TypeAlias = dict[bytes, tuple[Any, int]]
EXPECTED: dict[Call, tuple[Any, dict[bytes, tuple[bytes | None, bytes]]]] = {}  # with all rights


def replace(key: str, owner: str | None) -> Call:
    return lambda storage, at: storage.replace(f"session:{key}", b"new", 900, version=at[key], owner=owner)


def move(key: str, owner: str | None, tombstone: float = 0.0) -> Call:
    return lambda storage, at: storage.move(
        f"session:{key}", "session:to", b"new", 900, version=at[key], owner=owner, tombstone=tombstone
    )


CALLS: dict[str, Call] = {
    "create": lambda storage, _: storage.create("session:new", b"new", 900),
    "create owned": lambda storage, _: storage.create("session:new", b"new", 900, owner=ADA),
    "create owned anew": lambda storage, _: storage.create("session:new", b"new", 900, owner="session:owner:eve"),
    "create briefly": lambda storage, _: storage.create("session:new", b"new", 5, owner=ADA),
    **{
        f"{name} {key} for {owner and owner[14:]}": call(key, owner)
        for name, call in (("replace", replace), ("move", move))
        for key in ("plain", "ada", "bob")
        for owner in (None, ADA, BOB)
    },
    "move ada for ada, with a tombstone": move("ada", ADA, 60),
    "move bob for bob, with a tombstone": move("bob", BOB, 60),
    "touch": lambda storage, _: storage.touch("session:ada", 900),
    "touch plain": lambda storage, _: storage.touch("session:plain", 900),
    "touch briefly": lambda storage, _: storage.touch("session:ada", 5),
    "renew": lambda storage, _: storage.load("session:ada", renew=900),
    "load": lambda storage, _: storage.load("session:ada"),
    "delete": lambda storage, _: storage.delete("session:ada"),
    "delete all": lambda storage, _: storage.delete("session:ada", "session:bob", "session:plain"),
    "owned_keys": lambda storage, _: storage.owned_keys(ADA),
}


class House:
    """One server with records, seen by its administrator, and a storage whose user may lack something."""

    def __init__(self, admin: Any, storage: RedisStorage, every: RedisStorage) -> None:
        self.admin = admin
        self.storage = storage
        self.every = every
        self.at: Versions = {}

    async def furnish(self) -> None:
        self.admin.flushall()
        self.at = {
            "plain": await made(self.every, "session:plain", ttl=500),
            "ada": await made(self.every, "session:ada", ttl=500, owner=ADA),
            "bob": await made(self.every, "session:bob", ttl=500, owner=BOB),
        }
        self.admin.zadd(INDEX, {"session:dead": time.time() * 1000 + 600_000})

    def world(self) -> World:
        """Everything on the server: for each key, its value and the milliseconds that it has left."""
        return {
            key: (dict(zip(value[::2], map(float, value[1::2]), strict=True)) if kind == b"zset" else value, left)
            for key, kind, left, value in self.admin.eval(LOOK, 0)
        }

    def meaning(self) -> dict[bytes, tuple[bytes | None, bytes]]:
        """The records with owner and data. None may outlive its owner's index, if that is one, or its entry there."""
        said: dict[bytes, tuple[bytes | None, bytes]] = {}
        world = self.world()
        for key, (value, left) in world.items():
            if key.endswith(b":sessioncore-index"):
                continue
            if value[:2] == TOMBSTONE:
                said[key] = (None, value)
                continue
            _, owner, data = unpack(value)
            said[key] = (owner, data)
            index, index_left = world.get(b"%b:sessioncore-index" % owner, (None, 0)) if owner else (None, 0)
            if isinstance(index, dict):
                assert index[key] >= time.time() * 1000 + left
                assert index_left >= left
        return said


@asynccontextmanager
async def house(server: Server) -> AsyncGenerator[House]:
    server.do("ACL", "SETUSER", "web", "reset", *rules(), ">word")
    server.do("SCRIPT", "FLUSH")
    admin: Any = Redis(port=server.port, protocol=2)
    async with (
        aclosing(RedisStorage.from_url(f"redis://web:word@127.0.0.1:{server.port}/0")) as storage,
        storage_at(server.port) as every,
    ):
        with admin:
            yield House(admin, storage, every)


def assert_unchanged(before: World, after: World) -> None:
    assert before.keys() == after.keys()
    for key, (value, left) in before.items():
        there, now = after[key]
        assert abs(left - now) < 2000
        # Some milliseconds pass, even if a call takes back what it has written.
        assert there == (pytest.approx(cast("Any", value), abs=2000) if isinstance(value, dict) else value)


async def assert_all_or_nothing(house: House, call: Call, spoil: Callable[[], object]) -> bool:
    """Make a call with all rights, and again when something is missing; return True if it then fails."""
    if call not in EXPECTED:
        await house.furnish()
        EXPECTED[call] = await call(house.every, house.at), house.meaning()
    expected, meant = EXPECTED[call]
    await house.furnish()
    spoil()
    before = house.world()
    [result] = await asyncio.gather(call(house.storage, house.at), return_exceptions=True)
    if isinstance(result, BaseException):
        assert type(result) in {StorageError, ForeignValue}
        assert "ada" not in f"{result} {result.__cause__!r}"
        assert_unchanged(before, house.world())
        return True
    assert house.meaning() == meant
    if isinstance(expected, Stored):
        assert (type(result), result.data) == (Stored, expected.data)
    elif type(expected) is int and expected > len(house.at):
        assert type(result) is int  # a version
    else:
        assert result == expected
    return False


def test_the_documented_rights_are_those_that_the_storage_needs() -> None:
    assert {name.lower() for name in IN_SCRIPTS | OUTSIDE} == set(COMMANDS) == set(RIGHTS_TOLD.replace("+", "").split())


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_call_without_a_right_works_or_changes_nothing(server: Server, right: str) -> None:
    async with house(server) as here:

        def spoil() -> None:
            here.admin.execute_command("ACL", "SETUSER", "web", f"-{right}")

        if right == "eval":
            EXPECTED.clear()  # so each call is made with all rights first, and the server knows its script
        failed = {name for name, call in CALLS.items() if await assert_all_or_nothing(here, call, spoil)}
        # At least one call fails, unless at worst an index entry without a record would stay.
        assert bool(failed) is (right not in {"zrem", "zrangebyscore", "scan", "eval"})
        assert bool(failed & {"delete", "delete all"}) is (right in ENDING)


@pytest.mark.parametrize("kind", OTHER_TYPES)
async def test_a_call_with_an_index_of_another_type_works_or_changes_nothing(server: Server, kind: str) -> None:
    async with house(server) as here:

        def spoil() -> None:
            here.admin.delete(INDEX)
            here.admin.execute_command(*OTHER_TYPES[kind])

        failed = {name for name, call in CALLS.items() if await assert_all_or_nothing(here, call, spoil)}
        assert failed == {
            *("create owned", "create briefly", "touch", "touch briefly", "owned_keys"),
            "move ada for ada, with a tombstone",
            *(f"{name} {key} for ada" for name in ("replace", "move") for key in ("plain", "ada", "bob")),
        }
