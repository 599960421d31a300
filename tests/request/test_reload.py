"""`reload()`: what others have stored meanwhile, with the unsaved changes of this request on top."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab, login, lose, regenerate
from tests.models import Item
from tests.request.test_replaced_ids import SpyWithTombstones
from tests.stores import PromptStorage, SpyStorage, SuspendingStorage

from sessioncore import CodecError, Session, SessionGone, SessionKey, SessionReleased, StorageError, StorageUnavailable
from sessioncore.storage import LATER, Call, Later, Load, LoadsMany, Reply

pytestmark = pytest.mark.anyio

CART: SessionKey[list[Item]] = SessionKey("cart", list[Item], default_factory=list[Item])
Change = Callable[[Session], object]


async def two(lab: Lab, **data: Any) -> tuple[Session, Session]:
    """One session in two requests; `items` was read by the first."""
    await lab.begin(**data or {"n": 1, "items": [1], "old": 1})
    ours, theirs = [await lab.store.get_by_id(lab.visitor.sid or "") for _ in range(2)]
    ours.get("items")
    lab.forget()
    return ours, theirs


def add(session: Session) -> None:
    session.mutate("n", lambda n: n + 1, default=0)


# ours, theirs, what we see after the reload on top of n=1, items=[1], old=1, and whether our next save writes
CASES: dict[str, tuple[Change, Change, dict[str, object], bool]] = {
    "nothing": (lambda s: None, lambda s: None, {}, False),
    "theirs alone": (lambda s: None, lambda s: s.update(n=2, new=1), {"n": 2, "new": 1}, False),
    "theirs inside a value that we read": (
        lambda s: None, lambda s: s["items"].append(2), {"items": [1, 2]}, False),
    "their deletion": (lambda s: None, lambda s: s.delete("old"), {"old": None}, False),
    "ours alone": (lambda s: s.set("n", 5), lambda s: None, {"n": 5}, True),
    "two keys": (lambda s: s.set("m", 5), lambda s: s.set("k", 6), {"m": 5, "k": 6}, True),
    "one key": (lambda s: s.set("n", 5), lambda s: s.set("n", 6), {"n": 5}, True),
    "one key, to the same value": (lambda s: s.set("n", 5), lambda s: s.set("n", 5), {"n": 5}, False),
    "ours set to what it was": (lambda s: s.set("n", 1), lambda s: s.set("n", 6), {"n": 6}, False),
    "ours deleted": (lambda s: s.delete("n"), lambda s: s.set("n", 6), {"n": None}, True),
    "both deleted": (lambda s: s.delete("n"), lambda s: s.delete("n"), {"n": None}, False),
    "ours inside a value": (lambda s: s["items"].append(3), lambda s: s.set("k", 6), {"items": [1, 3], "k": 6}, True),
    "ours inside a value that they deleted": (
        lambda s: s["items"].append(3), lambda s: s.delete("items"), {"items": [1, 3]}, True),
    "both mutated": (add, lambda s: s.mutate("n", lambda n: n + 2), {"n": 4}, True),
    "ours mutated, and the result changed in place": (
        lambda s: (s.mutate("items", lambda items: [*items, 2]), s["items"].append(3)),
        lambda s: s["items"].append(9), {"items": [1, 2, 3]}, True),
    "ours mutated without a default, theirs deleted": (
        lambda s: s.mutate("n", lambda n: n + 1), lambda s: s.delete("n"), {"n": None}, False),
    "ours mutated with a default, theirs deleted": (add, lambda s: s.delete("n"), {"n": 1}, True),
    "a changed typed default, and theirs": (
        lambda s: s[CART].append(Item("tea")), lambda s: s.set("k", 6), {"cart": [Item("tea")], "k": 6}, True),
    "ours removed and set again": (
        lambda s: s.set("n", s.pop("n") + 6), lambda s: s.set("k", 6), {"n": 7, "k": 6}, True),
}  # fmt: skip


@pytest.mark.parametrize("kind", [SuspendingStorage, PromptStorage])
@pytest.mark.parametrize("name", CASES)
async def test_a_reload_shows_what_a_save_would_store_and_it_writes_no_more(name: str, kind: type[SpyStorage]) -> None:
    change_ours, change_theirs, difference, writes = CASES[name]
    lab = Lab(kind=kind)
    ours, theirs = await two(lab)
    change_ours(ours)
    change_theirs(theirs)
    await theirs.save()
    lab.forget()
    for _ in range(2):  # again: there is nothing new
        await ours.reload()
        shown = {"n": 1, "items": [1], "old": 1, **difference}
        assert dict(ours) == {key: value for key, value in shown.items() if value is not None}
        assert ours.modified or not writes
    await ours.save()
    assert lab.calls == ["load", "load", *["replace"] * writes]
    assert dict(await lab.store.get_by_id(ours.id)) == dict(ours)
    assert not ours.modified
    lab.forget()
    await ours.save()
    assert lab.calls == []


async def test_what_others_store_after_a_reload_is_kept_by_the_next_save(lab: Lab) -> None:
    ours, theirs = await two(lab)
    add(ours)
    ours["mine"] = 1
    add(theirs)
    await theirs.save()
    await ours.reload()
    add(theirs)
    theirs.update(theirs=1, mine=0)
    await theirs.save()
    await ours.save()
    assert await lab.data() == dict(ours) == {"n": 4, "items": [1], "old": 1, "theirs": 1, "mine": 1}


async def test_values_that_nobody_changed_stay_the_same_objects_and_are_watched(lab: Lab) -> None:
    ours, theirs = await two(lab, a=[1], b=[1], c=[1])
    read, mine, changed = ours["a"], ours["b"], ours["c"]
    mine.append(2)
    theirs.update(c=[3], d=[4])
    await theirs.save()
    await ours.reload()
    assert ours["a"] is read
    assert ours["b"] is mine
    assert ours["c"] is not changed
    for name in "abcd":
        ours[name].append(9)
    await ours.save()
    assert await lab.data() == {"a": [1, 9], "b": [1, 2, 9], "c": [3, 9], "d": [4, 9]}


async def test_owner_details_and_dates_follow_and_own_changes_of_them_stay(lab: Lab) -> None:
    ours, theirs = await two(lab)
    theirs.bind_owner("ada", device="phone")
    theirs.set_idle_timeout(timedelta(hours=2))
    await theirs.save()
    await ours.reload()
    assert (ours.owner, ours.details, ours.idle_timeout) == ("ada", {"device": "phone"}, timedelta(hours=2))
    assert (ours.created_at, ours.expires_at) == (theirs.created_at, theirs.expires_at)
    ours.bind_owner("ada", device="desk")
    theirs.set_idle_timeout(None)
    await theirs.save()
    await ours.reload()
    assert (ours.details, ours.idle_timeout) == ({"device": "desk"}, timedelta(minutes=30))
    await ours.save()
    assert (await lab.kept()).details == {"device": "desk"}


async def test_a_cookie_that_a_save_has_changed_is_sent_also_after_a_reload(lab: Lab) -> None:
    await lab.begin()
    async with lab.visitor.request() as session:
        session.set_persistent(False)
        await session.save()
        async with lab.store.open(session.id) as other:
            other["n"] = 2
        await session.reload()
        assert session["n"] == 2
    assert ["Max-Age" in value for name, value in lab.visitor.headers if name == "set-cookie"] == [False]


async def test_a_login_that_is_not_saved_shows_nothing_of_an_owner_who_came_meanwhile(lab: Lab) -> None:
    exchange = await lab.begin_request(n=1, same="x")
    session = exchange.session
    await session.login("bob")
    session.update(same="secret", mine=1)
    async with lab.store.open(lab.visitor.sid or "") as other:
        other.bind_owner("ada")
        other["same"] = "secret"
    await session.reload()
    assert (dict(session), session.owner) == ({"same": "secret", "mine": 1}, "bob")
    await lab.visitor.leave(exchange)
    assert await lab.data() == {"same": "secret", "mine": 1}
    assert (await lab.kept()).owner == "bob"


# -- ended, moved, never stored


async def ended(lab: Lab, theirs: Session) -> None:
    await theirs.destroy()


async def moved(lab: Lab, theirs: Session) -> None:
    await theirs.regenerate()
    await theirs.save()


async def too_old(lab: Lab, theirs: Session) -> None:
    for _ in range(60):
        lab.clock.advance(25 * 60)
        await lab.storage.inner.touch(f"session:{theirs.handle}", 1800)


@pytest.mark.parametrize("how", [ended, moved, too_old])
@pytest.mark.parametrize("tombstones", [False, True])
async def test_a_session_that_was_ended_or_moved_is_gone_and_nothing_is_renewed(how: Any, tombstones: bool) -> None:
    lab = Lab(kind=SpyWithTombstones if tombstones else SpyStorage)
    ours, theirs = await two(lab)
    ours["n"] = 5
    old = ours.id
    await how(lab, theirs)
    lab.forget()
    for _ in range(2):
        with pytest.raises(SessionGone, match="was replaced" if tombstones and how is moved else r"ended.*reset\(\)"):
            await ours.reload()
        assert dict(ours) == {}
    with pytest.raises(SessionGone):
        await ours.save()
    assert (lab.calls, ours.id, ours.fresh) == (["load"], old, True)
    kind = "stale_id" if how is moved and tombstones else "expired" if how is too_old else "gone"
    assert lab.kinds() == [kind]


@pytest.mark.proves("P2")
@pytest.mark.parametrize("logs_out", [False, True])
async def test_a_move_that_a_reload_finds_stops_neither_a_login_nor_a_logout(logs_out: bool) -> None:
    lab = Lab(kind=SpyWithTombstones)
    exchange = await lab.begin_request()
    await exchange.session.login("ada")
    async with lab.store.open(lab.visitor.sid or "") as other:
        await other.regenerate()
    with pytest.raises(SessionGone):
        await exchange.session.reload()
    if logs_out:
        await exchange.session.destroy()
        assert await lab.found(other.id) is None
    else:
        await lab.visitor.leave(exchange)
        assert (await lab.kept()).owner == "ada"


async def test_a_session_that_is_not_stored_has_nothing_to_take_over(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        await session.reload()
        session["n"] = 1
        await session.reload()
        assert (dict(session), lab.calls) == ({"n": 1}, [])
    async with lab.visitor.request() as session:
        await session.destroy()
        lab.forget()
        session["n"] = 2
        await session.reload()
        assert (dict(session), lab.calls) == ({"n": 2}, [])
        session.release()
        with pytest.raises(SessionReleased):
            await session.reload()


# -- the idle clock


class Cached(PromptStorage):
    """A storage with a cache: loads that must be up to date use `load_many`, which renews nothing."""

    capabilities = PromptStorage.capabilities | {LoadsMany}

    def answer_now(self, call: Call) -> Reply | Later:
        return LATER if isinstance(call, Load) else super().answer_now(call)

    async def load_many(self, keys: Sequence[str]) -> list[Any]:
        return [await self.load(key) for key in keys]


@pytest.mark.parametrize("interval", [None, timedelta(0)])
@pytest.mark.parametrize(("own", "ttl"), [(None, 1800), (timedelta(hours=2), 7200)])
async def test_a_reload_renews_the_idle_clock_when_that_is_due(
    interval: timedelta | None, own: timedelta | None, ttl: float
) -> None:
    lab = Lab(kind=Cached, touch_interval=interval)
    session = await lab.store.create()
    session.set_idle_timeout(own)
    await session.save()
    calls = ["load"] if interval is not None and own is None else ["load", "touch"]
    lab.clock.advance(1000)
    lab.forget()
    await session.reload()
    assert (lab.calls, (await lab.stored(session)).ttl) == (calls, ttl)
    assert session.expires_at == (await lab.kept(session.id)).expires_at
    assert lab.kinds() == ["renewed"] * ("touch" in calls)


async def test_a_renewal_that_finds_the_session_ended_raises_and_one_that_fails_does_not() -> None:
    for step, error in ((lose, None), ("end", SessionGone)):
        lab = Lab()
        ours, theirs = await two(lab)
        lab.clock.advance(1000)
        lab.storage.before["touch"] = theirs.destroy if step == "end" else lose
        with pytest.raises(error) if error else nullcontext():
            await ours.reload()
        assert dict(ours) == ({} if error else {"n": 1, "items": [1], "old": 1})


# -- failures


def spoil(value: Any) -> Any:
    if value == 6:
        raise ZeroDivisionError
    return value + 1


@pytest.mark.parametrize("failure", ["down", "refused", "unreadable", "a value of ours", "a function of ours"])
async def test_a_reload_that_fails_leaves_the_session_as_it_was(failure: str, lab: Lab) -> None:
    ours, theirs = await two(lab)
    ours["items"].append(object() if failure == "a value of ours" else 2)
    ours.mutate("n", spoil)
    theirs["n"] = 6
    await theirs.save()
    before, there = dict(ours), await lab.stored(ours)
    error: type[Exception] = StorageUnavailable
    if failure == "refused":
        error = StorageError
        lab.storage.fail("load", error=StorageError("no"))
    elif failure == "down":
        lab.storage.fail("load")
    elif failure == "unreadable":
        error = StorageError
        await lab.storage.inner.replace(f"session:{ours.handle}", b"?", 1800, version=there.version)
    else:
        error = CodecError if failure == "a value of ours" else ZeroDivisionError
    with pytest.raises(error):
        await ours.reload()
    assert dict(ours) == before
    assert ours.modified
    assert ("corrupt" in lab.kinds()) is (failure == "unreadable")
    if failure in {"down", "refused"}:
        lab.storage.restore()
        ours["n"] = 7
        await ours.save()
        assert await lab.data() == {"n": 7, "items": [1, 2], "old": 1}


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_write_of_unknown_outcome_is_settled_before_a_reload(arrived: bool, lab: Lab) -> None:
    ours, theirs = await two(lab)
    add(ours)
    (lab.storage.after if arrived else lab.storage.before)["replace"] = lose
    with pytest.raises(StorageUnavailable):
        await ours.save()
    await ours.reload()
    assert dict(ours) == {"n": 2, "items": [1], "old": 1}
    add(theirs)
    await theirs.save()
    await ours.reload()
    await ours.save()
    assert await lab.data() == dict(ours) == {"n": 3, "items": [1], "old": 1}


# -- several tasks


@BOTH_LOOPS
async def test_a_reload_waits_for_a_save_and_a_save_for_a_reload() -> None:
    for first, second in (("save", "reload"), ("reload", "save"), ("reload", "reload")):
        lab = Lab(kind=SuspendingStorage)
        ours, theirs = await two(lab)
        add(ours)
        add(theirs)
        await theirs.save()
        lab.forget()
        async with anyio.create_task_group() as group:
            group.start_soon(getattr(ours, first))
            await anyio.lowlevel.checkpoint()
            add(ours)
            group.start_soon(getattr(ours, second))
        await ours.save()
        assert await lab.data() == dict(ours) == {"n": 4, "items": [1], "old": 1}


@pytest.mark.parametrize("work", [add, login, regenerate, Session.release])
async def test_what_happens_to_the_session_during_its_reload_holds(work: Any, lab: Lab) -> None:
    exchange = await lab.begin_request()
    session, old = exchange.session, lab.visitor.sid

    async def meanwhile() -> None:
        async with lab.store.open(old or "") as other:
            other["k"] = 1
        if (waits := work(session)) is not None:
            await waits

    lab.storage.after["load"] = meanwhile
    released = work is Session.release
    with pytest.raises(SessionReleased) if released else nullcontext():
        await session.reload()
    assert dict(session) == ({"n": 1} if released else {"n": 2 if work is add else 1})
    await lab.visitor.leave(exchange)
    assert await lab.data() == {"n": 2 if work is add else 1, "k": 1}
    assert (lab.visitor.sid != old) is (work in (login, regenerate))


@BOTH_LOOPS
async def test_a_cancelled_reload_changes_nothing_and_leaves_the_turn_to_others(lab: Lab) -> None:
    ours, theirs = await two(lab)
    theirs["n"] = 6
    await theirs.save()
    held, scope = lab.storage.hold("load", times=1), anyio.CancelScope()

    async def cut() -> None:
        with scope:
            await ours.reload()

    async with anyio.create_task_group() as group:
        group.start_soon(cut)
        await held.entered.wait()
        group.start_soon(ours.reload)
        await anyio.wait_all_tasks_blocked()
        assert lab.calls.count("load") == 1
        scope.cancel()
    assert dict(ours) == {"n": 6, "items": [1], "old": 1}
