"""A write whose reply was lost and that arrives late: between the search for it and the write that follows."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from tests.kit import Lab, mutate
from tests.stores import SpyStorage
from tests.views import Visitor

from sessioncore import Session, SessionConfig, SessionKey, SessionStore, StorageUnavailable

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Change = Callable[[Session], Awaitable[None]]
NOTES = SessionKey("notes", list[str], default_factory=list[str])


class LateStorage(SpyStorage):
    """Loses the next write named in `lost`, and carries it out at the end of the load that looks for it."""

    lost = ""

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name != self.lost:
            return await super()._through(name, call)
        self.lost = ""
        self.after["load"] = call
        raise StorageUnavailable("lost by a test")


class Site(Lab):
    """A lab whose storage loses a write and carries it out late."""

    def __init__(self) -> None:
        self.late = LateStorage()
        super().__init__(self.late)

    async def lose(self, session: Session, write: str) -> None:
        self.events.clear()
        self.late.lost = write
        with pytest.raises(StorageUnavailable):
            await session.save()


async def login(session: Session) -> None:
    await mutate(session)
    await session.login("ada")


@pytest.mark.proves("AT-110")
@pytest.mark.parametrize("more", [False, True], ids=["alone", "and a later change"])
@pytest.mark.parametrize(("change", "write"), [(mutate, "replace"), (login, "move"), (login, "create")])
async def test_a_write_that_arrives_late_is_not_done_again(change: Change, write: str, more: bool) -> None:
    site = Site()
    if write != "create":
        await site.begin()
    exchange = await site.visitor.arrive()
    await change(exchange.session)
    await site.lose(exchange.session, write)
    if more:
        await mutate(exchange.session)
        exchange.session[NOTES].append("changed in place")
    await site.visitor.leave(exchange)
    expected: dict[str, Any] = {"n": (write != "create") + 1 + more}
    assert await site.data() == expected | ({"notes": ["changed in place"]} if more else {})
    assert len(site.storage.inner) == 1
    assert len(await site.store.sessions_of("ada")) == (change is login)
    assert site.kinds("storage_error") == {"replace": [], "move": ["login"], "create": ["created"]}[write]


async def test_what_another_request_writes_on_top_of_a_late_write_leaves_its_outcome_unknown() -> None:
    site = Site()
    exchange = await site.begin_request()
    await mutate(exchange.session)
    await site.lose(exchange.session, "replace")

    async def write_on_top() -> None:
        async with site.store.open(site.visitor.sid or "") as other:
            other["other"] = True

    site.storage.before["replace"] = write_on_top
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="another request has written"):
            await exchange.session.save()
    with pytest.raises(StorageUnavailable, match="another request has written"):
        await site.visitor.leave(exchange)
    assert await site.data() == {"n": 2, "other": True}  # stored once, and not lost


@pytest.mark.parametrize(("change", "write"), [(mutate, "replace"), (login, "move")])
async def test_a_session_that_is_ended_after_the_search_for_a_lost_write_is_gone(change: Change, write: str) -> None:
    site = Site()
    exchange = await site.begin_request()
    await change(exchange.session)
    await site.lose(exchange.session, write)

    async def end() -> bool:
        return await site.store.delete(site.visitor.sid or "")

    site.storage.after["load"] = end
    await site.visitor.leave(exchange)
    assert site.kinds("storage_error") == ["destroyed", "gone"]
    assert len(site.storage.inner) == 0


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("write", ["create", "move"])
async def test_a_login_whose_reply_was_lost_keeps_to_the_owners_limit(write: str, arrived: bool) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage, max_sessions_per_owner=1))
    await store.create({}, owner="ada")
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    if write == "move":
        exchange.session["n"] = 1
        await visitor.leave(exchange)
        exchange = await visitor.arrive()
    await exchange.session.login("ada")
    (storage.lose_reply if arrived else storage.fail)(write, times=1)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    await visitor.leave(exchange)
    [left] = await store.sessions_of("ada")
    assert left.handle == (await store.get_by_id(visitor.sid or "")).handle
