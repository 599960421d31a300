"""Writes whose reply was lost: the next commit finds out what became of them, and makes none twice."""

from collections.abc import Callable

import pytest
from tests.kit import Lab, Work, lose, mutate
from tests.stores import AlternatingStorage, PromptStorage, SpyStorage

from sessioncore import Done, Exchange, Session, StorageUnavailable
from sessioncore.storage import LATER, Call, Later, Load, Reply

pytestmark = pytest.mark.anyio


class StaleStorage(PromptStorage):
    """One that answers a load at once with what it found there first, unless its present state is asked for."""

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
    """A request whose save failed: the call was lost, or its reply was."""
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


@ARRIVED
async def test_a_storage_that_answers_at_once_settles_the_outcome_at_once(arrived: bool) -> None:
    lab = Lab(kind=PromptStorage)
    exchange = await lost(lab, mutate, "replace", arrived=arrived)
    assert isinstance(exchange.commit(200), Done)
    await exchange.finish()
    assert await lab.data() == {"n": 2}
