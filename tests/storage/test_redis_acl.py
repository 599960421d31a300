"""The least that an ACL must grant: the tests run with the rules of the documentation."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servers.redis_server import Server, pair
from tests.storage.rigs import made

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


def rules() -> list[str]:
    """The rules of the user in docs/server-settings.md, as a server takes them."""
    page = Path("docs/server-settings.md").read_text(encoding="utf-8")
    found = re.search(r"ACL SETUSER web (.*?)\n```", page, re.DOTALL)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


COMMANDS = sorted(rule.removeprefix("+") for rule in rules() if rule.startswith("+"))
NOT_NEEDED = {"wait", "client|tracking", "client|caching"}  # by the calls on one server


@asynccontextmanager
async def as_user(server: Server, *more: str, db: int = 0, **options: Any) -> AsyncGenerator[RedisStorage]:
    server.do("FLUSHALL")
    server.do("SCRIPT", "FLUSH")
    server.do("ACL", "SETUSER", "web", "reset", *rules(), *more, ">word")
    url = f"redis://web:word@127.0.0.1:{server.port}/{db}"
    async with aclosing(RedisStorage.from_url(url, **options)) as storage:
        yield storage


async def every_call(storage: RedisStorage, do: Callable[..., Any]) -> None:
    """Make every call of the protocol, in every way that sends different commands."""
    owner = "session:owner:ada"
    await storage.open()
    await storage.check()
    plain = await made(storage, "session:plain")
    owned = await made(storage, "session:owned", owner=owner)
    for key in ("session:plain", "session:owned", "session:none"):
        await storage.load(key)
        await storage.load(key, renew=100)
        await storage.touch(key, 100)
    plain_now = await storage.replace("session:plain", b"2", 100, version=plain, owner=owner)
    owned_now = await storage.replace("session:owned", b"2", 100, version=owned)
    assert isinstance(plain_now, int)
    assert isinstance(owned_now, int)
    await storage.replace("session:plain", b"3", 100, version=1)
    assert isinstance(await storage.move("session:plain", "session:moved", b"3", 100, version=plain_now), int)
    await storage.move("session:owned", "session:again", b"3", 100, version=1)
    assert isinstance(await storage.move("session:owned", "session:again", b"3", 100, version=owned_now), int)
    assert await storage.delete("session:moved") == 1
    last = await asyncio.gather(*(storage.create(f"session:{n}", b"", 100, owner=owner) for n in range(501)))
    assert None not in last
    do("UNLINK", "session:7")
    assert len(await storage.owned_keys(owner)) == 500  # too many for one script: they are looked up separately
    assert len(await storage.owned_keys(owner)) == 500
    do("ZADD", f"{owner}:sessioncore-index", 1, "session:dead")
    assert await storage.purge_expired() == 1
    assert await storage.clear("session:") == 501


async def test_the_documented_rules_are_enough_for_every_call_also_where_replicas_confirm(server: Server) -> None:
    with pair() as (master, _):
        for one, replicas in ((server, 0), (master, 1)):
            async with as_user(one, wait_replicas=replicas) as storage:
                await every_call(storage, one.do)


async def test_a_numbered_database_needs_select_too(server: Server) -> None:
    async with as_user(server, db=1) as storage:
        with pytest.raises(StorageError, match=r"ACL user lacks the right \+select;"):
            await storage.check()
    async with as_user(server, "+select", db=1) as storage:
        await storage.check()


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in NOT_NEEDED])
async def test_without_a_command_it_says_which(server: Server, command: str, caplog: pytest.LogCaptureFixture) -> None:
    async with as_user(server, f"-{command}") as storage:
        server.do("ACL", "LOG", "RESET")
        with pytest.raises(StorageError, match=rf"ACL user lacks the right \+{command};.* ACL SETUSER"):
            await every_call(storage, server.do)
        assert command.encode() in [entry[entry.index(b"object") + 1] for entry in server.do("ACL", "LOG")]
    # What a start does not need: EVAL only while the server remembers no script, SCAN for maintenance.
    assert (f"lacks the right +{command};" in caplog.text) is (command in {"eval", "scan"})


async def test_without_wait_no_deletion_is_called_confirmed(server: Server) -> None:
    async with as_user(server, "-wait", wait_replicas=1) as storage:
        await made(storage, "session:a")
        with pytest.raises(StorageUnavailable, match=r"deletion is done, but not confirmed.*lacks the right \+wait;"):
            await storage.delete("session:a")
        assert server.do("EXISTS", "session:a") == 0


async def test_keys_outside_the_prefix_are_refused(server: Server) -> None:
    async with as_user(server) as storage:
        with pytest.raises(StorageError, match="ACL") as caught:
            await storage.create("other:a", b"", 10)
        assert not isinstance(caught.value, StorageUnavailable)
        with pytest.raises(StorageError, match="ACL"):
            await storage.create("session:a", b"", 10, owner="other:ada")


async def test_indexes_of_other_prefixes_are_left_to_their_owners(server: Server) -> None:
    async with as_user(server) as storage:
        for prefix in ("a", "session", "z"):
            server.do("ZADD", f"{prefix}:owner:ada:sessioncore-index", 1, "dead")
        assert await storage.purge_expired() == 1
        assert server.do("EXISTS", "a:owner:ada:sessioncore-index", "z:owner:ada:sessioncore-index") == 2


async def test_the_error_of_a_user_that_may_not_log_in_says_what_to_check(server: Server) -> None:
    async with as_user(server, "off") as storage:
        with pytest.raises(StorageUnavailable, match=r"user and password.*URL"):
            await storage.load("session:a")
