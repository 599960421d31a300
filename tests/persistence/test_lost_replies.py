"""Writes whose reply was lost, and that may arrive late: the next commit finds out, and repeats none that arrived."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from tests.kit import Lab, Work, lose, mutate
from tests.stores import AlternatingStorage, PromptStorage, SpyStorage

from sessioncore import Done, Exchange, Session, SessionKey, StorageUnavailable
from sessioncore.storage import LATER, Call, Later, Load, Reply

pytestmark = pytest.mark.anyio

T = TypeVar("T")
NOTES = SessionKey("notes", list[str], default_factory=list[str])


class StaleStorage(PromptStorage):
    """One that immediately answers a load with what it found first under the key, unless the load is `uncached`."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock)
        self.found: dict[str, Reply] = {}

    def answer_now(self, call: Call) -> Reply | Later:
        if not isinstance(call, Load) or call.uncached:
            return super().answer_now(call)
        if call.key not in self.found:
            reply = super().answer_now(call)
            if reply is LATER:
                return LATER
            self.found[call.key] = reply
        return self.found[call.key]


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


CHANGES: list[tuple[Work, str]] = [(mutate, "replace"), (regenerate, "move"), (login, "move"), (begin_anew, "create")]
ARRIVED = pytest.mark.parametrize("arrived", [True, False])
CHANGE = pytest.mark.parametrize(("change", "operation"), CHANGES)


async def lost(lab: Lab, change: Work, operation: str, *, arrived: bool) -> Exchange:
    """A request whose save failed, because the call was lost, or (`arrived`) its reply."""
    exchange = await lab.begin_request()
    await change(exchange.session)
    (lab.storage.after if arrived else lab.storage.before)[operation] = lose
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    return exchange


@pytest.mark.proves("AT-53")
@ARRIVED
@CHANGE
@pytest.mark.parametrize("kind", [SpyStorage, AlternatingStorage, StaleStorage])
async def test_a_save_that_failed_is_made_good_by_the_next_one_exactly_once(
    change: Work, operation: str, arrived: bool, kind: type[SpyStorage]
) -> None:
    for more in (True, False):
        lab = Lab(kind=kind)
        exchange = await lost(lab, change, operation, arrived=arrived)
        assert exchange.session.modified
        assert exchange.session.owner == ("ada" if change is login else None)
        if more:
            await mutate(exchange.session)
        if not (arrived or more):
            lab.storage.after[operation] = lose  # the reply to the second try
            with pytest.raises(StorageUnavailable):
                await exchange.session.save()
        await lab.visitor.leave(exchange)
        assert await lab.data() == {"n": 3 if more else 2}
        assert len(await lab.store.sessions_of("ada")) == (change is login)
        assert len(lab.storage.inner) == 1
        moved = ["login" if change is login else "regenerated"]
        told = {"replace": [], "move": moved, "create": ["destroyed", "created"]}[operation]
        assert lab.kinds("storage_error") == told


@pytest.mark.proves("P3")
@pytest.mark.parametrize(("change", "operation"), CHANGES[:3])
async def test_while_the_outcome_is_unknown_the_client_gets_an_error_and_no_cookie(
    change: Work, operation: str, lab: Lab
) -> None:
    exchange = await lost(lab, change, operation, arrived=True)
    before = lab.visitor.sid
    with lab.storage.fail("load"), pytest.raises(StorageUnavailable):
        await lab.visitor.leave(exchange)
    assert "set-cookie" not in dict(lab.visitor.headers)
    assert lab.visitor.sid == before


@ARRIVED
@CHANGE
async def test_a_logout_ends_the_session_wherever_it_is(change: Work, operation: str, arrived: bool) -> None:
    for verb in (Session.destroy, Session.reset):
        lab = Lab()
        exchange = await lost(lab, change, operation, arrived=arrived)
        await verb(exchange.session)
        await lab.visitor.leave(exchange)
        assert len(lab.storage.inner) == 0


async def test_a_server_error_drops_the_changes_whose_outcome_is_unknown(lab: Lab) -> None:
    exchange = await lost(lab, mutate, "replace", arrived=False)
    await lab.visitor.leave(exchange, 502)
    assert await lab.data() == {"n": 1}


async def test_a_late_save_that_failed_is_made_good_at_the_end(lab: Lab) -> None:
    exchange = await lab.begin_request()
    await exchange.commit(200)
    await mutate(exchange.session)
    lab.storage.after["replace"] = lose
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    await exchange.finish()
    assert await lab.data() == {"n": 2}


@CHANGE
async def test_what_is_written_on_top_of_a_write_whose_reply_was_lost_leaves_its_outcome_unknown(
    change: Work, operation: str, lab: Lab
) -> None:
    exchange = await lost(lab, change, operation, arrived=True)
    async with lab.store.open(exchange.session.id) as other:
        other["other"] = True
    with pytest.raises(StorageUnavailable, match="another request has written"):
        await lab.visitor.leave(exchange)


@ARRIVED
async def test_a_storage_that_answers_at_once_settles_the_outcome_at_once(arrived: bool) -> None:
    lab = Lab(kind=PromptStorage)
    exchange = await lost(lab, mutate, "replace", arrived=arrived)
    assert isinstance(exchange.commit(200), Done)
    await exchange.finish()
    assert await lab.data() == {"n": 2}


# -- writes that arrive late: between the search for them and the write that follows


class LateStorage(SpyStorage):
    """Loses the next write named in `lost`, and carries it out at the end of the load that looks for it."""

    lost = ""

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name != self.lost:
            return await super()._through(name, call)
        self.lost = ""
        self.after["load"] = call
        raise StorageUnavailable("lost by a test")


async def lose_for_now(lab: Lab, session: Session, write: str) -> None:
    assert isinstance(lab.storage, LateStorage)
    lab.events.clear()
    lab.storage.lost = write
    with pytest.raises(StorageUnavailable):
        await session.save()


@pytest.mark.proves("AT-110")
@pytest.mark.parametrize("more", [False, True], ids=["alone", "and a later change"])
@pytest.mark.parametrize(("change", "write"), [(mutate, "replace"), (login, "move"), (login, "create")])
async def test_a_write_that_arrives_late_is_not_done_again(change: Work, write: str, more: bool) -> None:
    lab = Lab(kind=LateStorage)
    if write != "create":
        await lab.begin()
    exchange = await lab.visitor.arrive()
    await change(exchange.session)
    await lose_for_now(lab, exchange.session, write)
    if more:
        await mutate(exchange.session)
        exchange.session[NOTES].append("changed in place")
    await lab.visitor.leave(exchange)
    expected: dict[str, Any] = {"n": (write != "create") + 1 + more}
    assert await lab.data() == expected | ({"notes": ["changed in place"]} if more else {})
    assert len(lab.storage.inner) == 1
    assert len(await lab.store.sessions_of("ada")) == (change is login)
    assert lab.kinds("storage_error") == {"replace": [], "move": ["login"], "create": ["created"]}[write]


async def test_what_another_request_writes_on_top_of_a_late_write_leaves_its_outcome_unknown() -> None:
    lab = Lab(kind=LateStorage)
    exchange = await lab.begin_request()
    await mutate(exchange.session)
    await lose_for_now(lab, exchange.session, "replace")

    async def write_on_top() -> None:
        async with lab.store.open(lab.visitor.sid or "") as other:
            other["other"] = True

    lab.storage.before["replace"] = write_on_top
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="another request has written"):
            await exchange.session.save()
    with pytest.raises(StorageUnavailable, match="another request has written"):
        await lab.visitor.leave(exchange)
    assert await lab.data() == {"n": 2, "other": True}  # stored once, and not lost


@pytest.mark.parametrize(("change", "write"), [(mutate, "replace"), (login, "move")])
async def test_a_session_that_is_ended_after_the_search_for_a_lost_write_is_gone(change: Work, write: str) -> None:
    lab = Lab(kind=LateStorage)
    exchange = await lab.begin_request()
    await change(exchange.session)
    await lose_for_now(lab, exchange.session, write)
    lab.storage.after["load"] = partial(lab.store.delete, lab.visitor.sid or "")
    await lab.visitor.leave(exchange)
    assert lab.kinds("storage_error") == ["destroyed", "gone"]
    assert len(lab.storage.inner) == 0


@ARRIVED
@pytest.mark.parametrize("write", ["create", "move"])
@pytest.mark.parametrize("policy", ["evict_oldest", "refuse"])
async def test_a_login_whose_reply_was_lost_keeps_to_the_owners_limit(policy: str, write: str, arrived: bool) -> None:
    lab = Lab(max_sessions_per_owner=1, on_owner_limit=policy)
    if policy == "evict_oldest":
        await lab.store.create({}, owner="ada")
    if write == "move":
        await lab.begin()
    lab.clock.advance(1)
    exchange = await lab.visitor.arrive()
    await exchange.session.login("ada")
    (lab.storage.after if arrived else lab.storage.before)[write] = lose
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    await lab.visitor.leave(exchange)
    [left] = await lab.store.sessions_of("ada")
    assert left.handle == (await lab.kept()).handle
