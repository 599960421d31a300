"""Writes whose reply was lost: found out about, never sent again blindly, never answered as if nothing were."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from tests.stores import PromptStorage, SpyStorage
from tests.views import Visitor

from sessioncore import Done, Session, SessionConfig, SessionEvent, SessionStore, StorageUnavailable

pytestmark = pytest.mark.anyio


async def lose(*_: object, **__: object) -> None:
    raise StorageUnavailable("the reply was lost")


class House:
    """A store, a visitor with `n` in a session, and what happens to it."""

    def __init__(self) -> None:
        self.storage = SpyStorage()
        self.events: list[SessionEvent] = []
        self.store = SessionStore(SessionConfig(storage=self.storage, on_event=self.events.append))
        self.visitor = Visitor(self.store)

    async def begin(self) -> None:
        exchange = await self.visitor.arrive()
        exchange.session["n"] = 1
        await self.visitor.leave(exchange)
        self.events.clear()

    async def data(self) -> dict[str, Any]:
        return dict(await self.store.get_by_id(self.visitor.sid or ""))

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    def break_off(self, operation: str, *, arrived: bool) -> None:
        (self.storage.after if arrived else self.storage.before)[operation] = lose


async def mutate(session: Session) -> None:
    session.mutate("n", lambda n: n + 1, default=0)


async def regenerate(session: Session) -> None:
    await mutate(session)
    await session.regenerate()


async def login(session: Session) -> None:
    await mutate(session)
    await session.login("ada", device="phone")


async def begin_anew(session: Session) -> None:
    await session.reset()
    session["n"] = 1
    await mutate(session)


CHANGES = [(mutate, "replace"), (regenerate, "move"), (login, "move"), (begin_anew, "create")]
Change = Callable[[Session], Awaitable[None]]


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize(("change", "operation"), CHANGES)
@pytest.mark.parametrize("more", [True, False])
async def test_a_save_that_failed_is_made_good_by_the_next_one_exactly_once(
    change: Change, operation: str, arrived: bool, more: bool
) -> None:
    house = House()
    await house.begin()
    exchange = await house.visitor.arrive()
    await change(exchange.session)
    house.break_off(operation, arrived=arrived)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    assert exchange.session.modified
    assert exchange.session.owner == ("ada" if change is login else None)
    if more:
        await mutate(exchange.session)
    await house.visitor.leave(exchange)
    assert await house.data() == {"n": 3 if more else 2}
    assert len(await house.store.sessions_of("ada")) == (change is login)
    assert len(house.storage.inner) == 1
    told = {"replace": [], "move": ["login" if change is login else "regenerated"], "create": ["destroyed", "created"]}[
        operation
    ]
    assert [kind for kind in house.kinds() if kind != "storage_error"] == told


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("verb", ["login", "regenerate", "bind_owner", "set_idle_timeout"])
async def test_a_verb_alone_whose_save_failed_is_made_good_as_well(verb: str, arrived: bool) -> None:
    house = House()
    await house.begin()
    before = house.visitor.sid
    exchange = await house.visitor.arrive()
    session = exchange.session
    match verb:
        case "login":
            await session.login("ada")
        case "regenerate":
            await session.regenerate()
        case "bind_owner":
            session.bind_owner("ada")
        case _:
            session.set_idle_timeout(timedelta(hours=3))
    house.break_off("move" if verb in {"login", "regenerate"} else "replace", arrived=arrived)
    with pytest.raises(StorageUnavailable):
        await session.save()
    await house.visitor.leave(exchange)
    assert (house.visitor.sid != before) == (verb in {"login", "regenerate"})
    found = await house.store.get_by_id(house.visitor.sid or "")
    assert dict(found) == {"n": 1}
    assert found.owner == ("ada" if verb in {"login", "bind_owner"} else None)
    assert found.idle_timeout == timedelta(hours=3 if verb == "set_idle_timeout" else 0.5)


@pytest.mark.parametrize(("change", "operation"), CHANGES[:3])
async def test_while_nobody_knows_the_client_sees_an_error(change: Change, operation: str) -> None:
    house = House()
    await house.begin()
    before = house.visitor.sid
    exchange = await house.visitor.arrive()
    await change(exchange.session)
    house.break_off(operation, arrived=True)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    house.storage.fail("load")
    with pytest.raises(StorageUnavailable):
        await house.visitor.leave(exchange)
    assert [value for name, value in house.visitor.headers if name == "set-cookie"] == []
    assert house.visitor.sid == before


async def test_what_others_wrote_on_top_leaves_it_in_doubt() -> None:
    house = House()
    await house.begin()
    exchange = await house.visitor.arrive()
    await mutate(exchange.session)
    house.break_off("replace", arrived=True)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    async with house.store.open(house.visitor.sid or "") as other:
        await mutate(other)
    with pytest.raises(StorageUnavailable, match="another request has written"):
        await house.visitor.leave(exchange)
    assert await house.data() == {"n": 3}  # neither lost nor counted twice


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize(("change", "operation"), CHANGES)
@pytest.mark.parametrize("verb", ["destroy", "reset"])
async def test_a_logout_ends_it_wherever_it_is(change: Change, operation: str, arrived: bool, verb: str) -> None:
    house = House()
    await house.begin()
    exchange = await house.visitor.arrive()
    await change(exchange.session)
    house.break_off(operation, arrived=arrived)
    with suppress(StorageUnavailable):
        await exchange.session.save()
    await getattr(exchange.session, verb)()
    await house.visitor.leave(exchange)
    assert len(house.storage.inner) == 0


async def test_a_record_that_was_ended_meanwhile_is_gone() -> None:
    house = House()
    await house.begin()
    exchange = await house.visitor.arrive()
    await mutate(exchange.session)
    house.break_off("replace", arrived=True)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    await house.store.delete(house.visitor.sid or "")
    await house.visitor.leave(exchange)
    assert house.kinds()[-1] == "gone"
    assert len(house.storage.inner) == 0


async def test_a_server_error_drops_the_doubt_with_the_changes() -> None:
    house = House()
    await house.begin()
    exchange = await house.visitor.arrive()
    await mutate(exchange.session)
    house.break_off("replace", arrived=False)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    await house.visitor.leave(exchange, 502)
    assert await house.data() == {"n": 1}


async def test_a_late_save_that_failed_is_made_good_at_the_end() -> None:
    house = House()
    await house.begin()
    exchange = await house.visitor.arrive()
    await exchange.commit(200)
    await mutate(exchange.session)
    house.break_off("replace", arrived=True)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    await exchange.finish()
    assert await house.data() == {"n": 2}


@pytest.mark.parametrize("lost", ["arrived", "never sent"])
async def test_a_doubt_is_resolved_by_answers_that_come_at_once_too(lost: str) -> None:
    storage = PromptStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    await mutate(exchange.session)
    (storage.lose_reply if lost == "arrived" else storage.fail)("replace", times=1)
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    assert isinstance(exchange.commit(200), Done)
    await exchange.finish()
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 2}
