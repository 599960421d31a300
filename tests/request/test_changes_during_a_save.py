"""Changes of one task while another one saves their session: they are kept, even if the save fails."""

from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial

import pytest
from tests.kit import Lab, Work, doing, login, lose, regenerate

from sessioncore import Exchange, Session, StorageError, StorageUnavailable

pytestmark = pytest.mark.anyio


put = doing(lambda session: session.set("k", 1))
put_again = doing(lambda session: session.set("n", 2))
take_out = doing(lambda session: (session.pop("n"), session.set("n", None)))
append = doing(lambda session: session["items"].append(2))
add = doing(lambda session: session.mutate("n", lambda n: n + 1))
idle = doing(lambda session: session.set_idle_timeout(timedelta(hours=3)))
bind = doing(lambda session: session.bind_owner("ada"))

Difference = dict[str, object]
OF_DATA: list[tuple[Work, Difference]] = [
    (put, {"k": 1}), (put_again, {"n": 2}), (take_out, {"n": None}), (append, {"items": [1, 2]}), (add, {"n": 2}),
]  # fmt: skip
CHANGES: list[tuple[Work, Difference]] = [*OF_DATA, (idle, {}), (bind, {}), (regenerate, {})]


async def request_about_to(operation: str, lab: Lab) -> Exchange:
    """A request whose commit will make this call, with `n` and `items` changed."""
    if operation != "create":
        await lab.begin(n=0, items=[0])
    exchange = await lab.visitor.arrive()
    exchange.session.update(n=1, items=[1])
    if operation == "move":
        await exchange.session.regenerate()
    return exchange


async def check(lab: Lab, work: Work, difference: Difference, owner: str | None = None) -> None:
    found = await lab.kept()
    assert dict(found) == {"n": 1, "items": [1], **difference}
    assert found.owner == ("ada" if work in (bind, login) else owner)
    assert found.idle_timeout == timedelta(hours=3 if work is idle else 0.5)
    assert len(lab.storage.inner) == 1


@pytest.mark.parametrize("operation", ["create", "replace", "move"])
async def test_what_is_changed_while_the_session_is_saved_is_stored_by_the_next_commit(operation: str) -> None:
    for work, difference in CHANGES:
        lab = Lab()
        exchange = await request_about_to(operation, lab)
        lab.storage.before[operation] = partial(work, exchange.session)
        await exchange.session.save()
        assert dict(exchange.session) == {"n": 1, "items": [1], **difference}
        await lab.visitor.leave(exchange)
        await check(lab, work, difference)


async def test_a_save_that_fails_loses_nothing_of_what_was_changed_before_or_meanwhile() -> None:
    for work, difference in CHANGES:
        lab = Lab()
        held = await lab.held(n=0, items=[0])
        held["items"] = [1]
        held.mutate("n", lambda n: n + 1)
        held.bind_owner("bob")

        async def fail(work: Work = work, held: Session = held) -> None:
            await work(held)
            await lose()

        lab.storage.before["replace"] = fail
        with pytest.raises(StorageUnavailable):
            await held.save()
        await held.save()
        assert dict(held) == {"n": 1, "items": [1], **difference}
        lab.visitor.sid = held.id
        await check(lab, work, difference, "bob")


async def test_other_requests_and_other_tasks_may_write_during_one_save() -> None:
    for work, difference in OF_DATA:
        lab = Lab()
        held = await lab.held(n=1, items=[1], gone=1)
        assert held["items"] == [1]
        held["mine"] = 1

        async def meanwhile(work: Work = work, held: Session = held, lab: Lab = lab) -> None:
            await work(held)
            async with lab.store.open(held.id) as other:
                other.update(n=10, theirs=1)
                del other["gone"]

        lab.storage.before["replace"] = meanwhile
        await held.save()
        await held.save()
        own = {"n": 11} if work is add else difference
        assert await lab.data() == dict(held) == {"n": 10, "items": [1], "mine": 1, "theirs": 1, **own}


@pytest.mark.parametrize("outcome", ["stored", "failed", "unknown", "conflict"])
async def test_what_is_saved_for_one_owner_is_not_shown_to_the_next_that_another_task_logs_in(outcome: str) -> None:
    lab = Lab()
    async with lab.visitor.request() as session:
        await session.login("ada")
        session["n"] = 1
    exchange = await lab.visitor.arrive()
    session = exchange.session

    async def meanwhile() -> None:
        if outcome == "conflict":
            async with lab.store.open(lab.visitor.sid or "") as other:
                other["m"] = 1
        await session.login("bob")
        session["bobs"] = 1
        session.mutate("n", lambda n: n + 1, default=0)
        if outcome == "failed":
            await lose()

    lab.storage.before["replace"] = meanwhile
    if outcome == "unknown":
        lab.storage.after["replace"] = lose
    session["secret"] = "ada's"
    session.mutate("n", lambda n: n + 1)
    with suppress(StorageUnavailable):
        await session.save()
    assert dict(session) == {"bobs": 1, "n": 1}
    await lab.visitor.leave(exchange)
    found = await lab.kept()
    assert (dict(found), found.owner) == ({"bobs": 1, "n": 1}, "bob")


def added(item: str) -> Work:
    return doing(lambda session: session.mutate("items", lambda items: [*items, item]))


@pytest.mark.proves("P4")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_value_that_two_tasks_and_another_request_mutate_loses_no_update(fails: bool) -> None:
    lab = Lab()
    held = await lab.held(items=["start"])

    async def theirs(item: str) -> None:
        async with lab.store.open(held.id) as other:
            await added(item)(other)

    async def meanwhile() -> None:
        await added("second task")(held)
        await theirs("other request")
        if fails:
            raise StorageError("no room")

    await added("first task")(held)
    lab.storage.before["replace"] = meanwhile
    with pytest.raises(StorageError, match="no room") if fails else nullcontext():
        await held.save()
    await theirs("again")
    await held.save()
    first_save = ["again", "first task"] if fails else ["first task", "again"]
    assert await lab.data() == dict(held) == {"items": ["start", "other request", *first_save, "second task"]}


@pytest.mark.proves("P3")
@pytest.mark.parametrize("mutated", [False, True])
async def test_a_change_in_place_during_a_save_that_meets_a_conflict_is_stored_by_the_next(mutated: bool) -> None:
    lab = Lab()
    held = await lab.held(items=["start"])

    async def meanwhile() -> None:
        held["items"].append("in place")
        async with lab.store.open(held.id) as other:
            other["items"] = ["theirs"]

    assert held["items"] == ["start"]
    await (added("mutated") if mutated else put)(held)
    lab.storage.before["replace"] = meanwhile
    await held.save()
    await held.save()
    own = {"items": ["start", "mutated", "in place"]} if mutated else {"items": ["start", "in place"], "k": 1}
    assert await lab.data() == dict(held) == own


append_ours = doing(lambda session: session["items"].append("ours"))
set_ours = doing(lambda session: session.set("items", ["start", "ours"]))


@pytest.mark.proves("P4")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("change", [append_ours, set_ours])
async def test_a_mutation_during_a_save_of_its_value_loses_no_update(change: Work, fails: bool, lab: Lab) -> None:
    held = await lab.held(items=["start"])
    await change(held)

    async def meanwhile() -> None:
        await added("mutated")(held)
        if fails:
            raise StorageError("no room")

    lab.storage.before["replace"] = meanwhile
    with pytest.raises(StorageError, match="no room") if fails else nullcontext():
        await held.save()
    async with lab.store.open(held.id) as other:
        await added("other request")(other)
    await held.save()
    theirs = [] if fails else ["other request"]  # a value that was set overwrites it
    assert await lab.data() == dict(held) == {"items": ["start", "ours", *theirs, "mutated"]}
