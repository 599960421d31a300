"""When a session ends: the idle clock, the absolute deadline, and clocks and configurations that change."""

from datetime import UTC, datetime, timedelta

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit import Lab
from tests.numbers import scaled
from tests.stores import SpyStorage
from tests.views import PlainView, Visitor

from sessioncore import SessionGone
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
E = 0.001  # seconds, the least distance of a test from a deadline


async def look(lab: Lab, visitor: Visitor | None = None) -> bool:
    """Make a request that reads; True if the session was there."""
    async with (visitor or lab.visitor).request() as session:
        return not session.fresh and session["n"] == 1


async def set_idle(lab: Lab, idle: timedelta | None) -> float:
    async with lab.visitor.request() as session:
        session.set_idle_timeout(idle)
        assert session.idle_timeout == (idle or timedelta(minutes=30))
        return session.expires_at.timestamp()


# -- the idle clock


@pytest.mark.proves("AT-29", "AT-78", "ASVS 7.3.1")
@pytest.mark.parametrize(("away", "found"), [(1800 - E, True), (1800, False), (1800 + E, False)])
async def test_a_session_ends_after_its_idle_timeout(away: float, found: bool, lab: Lab) -> None:
    await lab.begin()
    lab.clock.advance(away)
    assert await look(lab) is found
    assert lab.kinds() == (["renewed"] if found else ["unknown"])


@pytest.mark.proves("AT-82")
@settings(max_examples=scaled(50))
@given(st.lists(st.floats(0, 60), max_size=30), st.floats(0.01, 3600))
def test_a_session_ends_within_touch_interval_of_its_idle_timeout(pauses: list[float], away: float) -> None:
    async def story() -> None:
        lab = Lab(touch_interval=timedelta(seconds=60), absolute_timeout=None)
        await lab.begin()
        for pause in pauses:
            lab.clock.advance(pause)
            assert await look(lab)
        lab.clock.advance(away)
        found = await look(lab)
        assert found or away >= 1740 - E
        assert not found or away < 1800 + E

    anyio.run(story)


@pytest.mark.proves("AT-82")
async def test_use_renews_the_idle_clock_at_most_once_in_a_touch_interval() -> None:
    lab = Lab(absolute_timeout=None)
    await lab.begin()
    for pause, renewals in ((0, 0), (10, 1)):
        lab.clock.advance(pause)
        for _ in range(100):
            lab.clock.advance(0.5)
            assert await look(lab)
        assert lab.calls.count("touch") == len(lab.kinds()) == renewals


async def test_a_touch_interval_of_zero_renews_with_each_load_in_the_same_trip() -> None:
    lab = Lab(touch_interval=timedelta())
    await lab.begin()
    for _ in range(5):
        lab.clock.advance(1799)
        assert await look(lab)
    assert lab.calls == ["load"] * 5


async def test_a_renewal_that_fails_sends_an_event_and_the_request_goes_on(lab: Lab) -> None:
    await lab.begin()
    lab.clock.advance(120)
    with lab.storage.fail("touch"):
        assert await look(lab)
    assert lab.kinds() == ["storage_error"]
    assert lab.events[0].detail.startswith("touch: ")
    assert await look(lab)
    assert lab.kinds() == ["storage_error", "renewed"]


@pytest.mark.proves("P2", "AT-45", "AT-46")
async def test_a_renewal_brings_no_session_back_and_leaves_others_data_alone(lab: Lab) -> None:
    await lab.begin()
    lab.clock.advance(120)
    reader, late = await lab.visitor.arrive(), await lab.visitor.arrive()
    assert late.session["n"] == 1
    async with lab.visitor.request() as session:
        session["m"] = 2
    await lab.visitor.leave(reader)
    assert await lab.data() == {"n": 1, "m": 2}
    lab.events.clear()
    assert await lab.store.delete(lab.visitor.sid or "")
    assert await lab.visitor.leave(late) == []
    assert lab.kinds() == ["destroyed", "gone"]
    assert len(lab.storage.inner) == 0


@pytest.mark.proves("AT-41", "AT-83")
async def test_a_request_that_outlasts_the_idle_timeout_stores_nothing(lab: Lab) -> None:
    exchange = await lab.begin_request()
    exchange.session["n"] = 2
    lab.clock.advance(1801)
    with pytest.raises(SessionGone):
        await exchange.session.save()
    assert await lab.visitor.leave(exchange) == []
    assert not await look(lab)


async def test_looking_at_a_session_by_its_id_does_not_renew_it_and_using_it_for_a_request_does() -> None:
    lab = Lab(touch_interval=timedelta())
    await lab.begin()
    lab.clock.advance(1000)
    assert await lab.data() == {"n": 1}
    lab.clock.advance(801)
    assert await lab.data() is None
    lab = Lab()
    await lab.begin()
    for _ in range(3):
        lab.clock.advance(1700)
        session = await lab.store.get(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
        assert session["n"] == 1
        session.release()
    assert lab.kinds() == ["renewed"] * 3


@pytest.mark.parametrize("value", [1, 2])
async def test_save_renews_the_idle_clock_whether_or_not_it_changes_anything(value: int, lab: Lab) -> None:
    session = await lab.held()
    for _ in range(5):
        lab.clock.advance(1200)
        session["n"] = value
        await session.save()
        assert (await lab.stored(session)).ttl == 1800
    lab.forget()
    lab.clock.advance(59)
    await session.save()
    assert lab.calls == []  # within touch_interval
    lab.clock.advance(2)
    await session.save()
    await session.save()
    assert lab.calls == ["touch"]
    lab.clock.advance(120)
    async with lab.visitor.request() as session:
        await session.save()
        await session.save()
    assert lab.calls == ["touch", "load", "touch"]


# -- an idle timeout of its own


@pytest.mark.parametrize("touch", [None, 0, 60])
async def test_an_own_idle_timeout_is_kept_and_renewed_by_use(touch: int | None) -> None:
    lab = Lab(touch_interval=None if touch is None else timedelta(seconds=touch))
    await lab.begin()
    assert await set_idle(lab, timedelta(seconds=40)) == lab.clock() + 40
    for _ in range(5):
        lab.clock.advance(30)
        assert await look(lab)
    session = await lab.kept()
    assert session.idle_timeout == timedelta(seconds=40)
    assert session.expires_at.timestamp() == pytest.approx(lab.clock() + 40, abs=0.001)
    await set_idle(lab, None)
    lab.clock.advance(1799)
    assert await look(lab)
    await set_idle(lab, timedelta(seconds=40))
    lab.clock.advance(41)
    assert not await look(lab)


@pytest.mark.proves("AT-86")
async def test_an_own_idle_timeout_may_exceed_the_configured_one_but_not_the_absolute_deadline() -> None:
    lab = Lab(absolute_timeout=timedelta(days=30))
    await lab.begin()
    await set_idle(lab, timedelta(days=7))
    for _ in range(4):
        lab.clock.advance(6 * DAY)
        assert await look(lab)
    await set_idle(lab, timedelta(days=365))
    session = await lab.kept()
    assert (session.idle_timeout, session.expires_at - session.created_at) == (timedelta(days=365), timedelta(days=30))
    assert (await lab.stored(session)).ttl == pytest.approx(6 * DAY)
    lab.clock.advance(6 * DAY - E)
    assert await look(lab)
    lab.clock.advance(E)
    assert not await look(lab)


async def test_a_request_that_breaks_off_does_not_shorten_a_longer_idle_timeout() -> None:
    lab = Lab(touch_interval=timedelta(), absolute_timeout=None)
    await lab.begin()
    await set_idle(lab, timedelta(days=7))
    lab.clock.advance(HOUR)
    exchange = await lab.visitor.arrive()
    assert exchange.session["n"] == 1
    await exchange.finish(failed=True)
    lab.clock.advance(HOUR)
    session = await lab.kept()
    assert session.idle_timeout == timedelta(days=7)


# -- the absolute deadline


@pytest.mark.proves("AT-29", "AT-79", "ASVS 7.3.2")
@pytest.mark.parametrize(("last", "found"), [(-E, True), (0, False), (E, False)])
@pytest.mark.parametrize("interval", [0, 60])
async def test_constant_use_ends_exactly_at_the_absolute_deadline(last: float, found: bool, interval: int) -> None:
    lab = Lab(absolute_timeout=timedelta(hours=2), touch_interval=timedelta(seconds=interval))
    await lab.begin()
    for _ in range(7):
        lab.clock.advance(1000)
        assert await look(lab)
    async with lab.visitor.request() as session:
        assert session.expires_at.timestamp() == pytest.approx(lab.clock() + 200, abs=0.001)
        session["m"] = 1
    assert (await lab.stored(session)).ttl == pytest.approx(200)
    lab.clock.advance(200 + last)
    assert await look(lab) is found


async def test_a_use_shortly_before_the_absolute_deadline_is_renewed_until_then_and_only_once() -> None:
    lab = Lab(absolute_timeout=timedelta(hours=1))
    await lab.begin()
    for pause in (1770, 1799, 1, 1, 28):  # the last renewal but one ends half a minute before the deadline
        lab.clock.advance(pause)
        assert await look(lab)
    assert lab.kinds() == ["renewed"] * 2


@pytest.mark.proves("AT-78")
async def test_the_record_decides_if_a_storage_keeps_it_too_long() -> None:
    lab = Lab(SpyStorage(lambda: 0.0), absolute_timeout=timedelta(hours=1))  # the storage's clock stands still
    await lab.begin()
    await lab.store.create({}, owner="ada")
    writer, reader, stale = await lab.visitor.arrive(), await lab.visitor.arrive(), await lab.visitor.arrive()
    writer.session["n"] = 2
    reader.session.get("n")
    lab.clock.advance(3000)
    late = await lab.visitor.arrive()  # its renewal is due
    lab.clock.advance(600 - E)
    assert await look(lab)
    assert len(await lab.store.sessions_of("ada")) == 1
    lab.forget()
    lab.clock.advance(E)
    for exchange in (writer, reader, stale, late):
        assert await lab.visitor.leave(exchange) == []
    assert (lab.calls, lab.kinds()) == ([], ["expired"])
    assert not await look(lab)
    assert lab.kinds() == ["expired", "expired"]
    assert await lab.store.sessions_of("ada") == []
    assert await lab.data() is None


# -- clocks and configurations


@pytest.mark.proves("AT-81")
async def test_a_clock_that_jumps_ends_sessions_early_and_makes_none_immortal() -> None:
    lab = Lab(absolute_timeout=timedelta(hours=2))
    await lab.begin()
    lab.clock.advance(-HOUR)
    assert await look(lab)
    alive = 0.0
    while await look(lab):
        lab.clock.advance(600)
        alive += 600
    assert alive <= 3 * HOUR + 600  # the two hours, and the one by which the clock was set back
    await lab.begin()
    lab.clock.advance(2 * DAY)
    assert not await look(lab)
    await lab.begin()
    assert await look(lab)


@pytest.mark.proves("AT-81")
async def test_a_server_whose_clock_differs_from_the_storages_ends_sessions_early_by_no_more() -> None:
    storage_clock, skew = ManualClock(), 5.0
    clock = ManualClock(storage_clock() + skew)
    lab = Lab(SpyStorage(storage_clock), clock=clock)
    await lab.begin()
    for moving in (clock, storage_clock):
        moving.advance(1800 - skew - E)
    assert await look(lab)
    for moving in (clock, storage_clock):
        moving.advance(1800 + E)
    assert not await look(lab)


@pytest.mark.parametrize(
    ("before", "after", "away", "found"),
    [(10, 1 / 12, 300 + E, False), (10, 1 / 12, 300 - E, True), (1 / 12, 10, 9 * HOUR, True)],  # hours; seconds
)
async def test_another_idle_timeout_applies_from_the_next_use(
    before: float, after: float, away: float, found: bool
) -> None:
    lab = Lab(idle_timeout=timedelta(hours=before))
    await lab.begin()
    lab.clock.advance(10)
    visitor = Visitor(lab.beside(idle_timeout=timedelta(hours=after)), sid=lab.visitor.sid)
    assert await look(lab, visitor)
    lab.clock.advance(away)
    assert await look(lab, visitor) is found


@pytest.mark.proves("AT-85")
async def test_dates_beyond_2038_and_sessions_of_a_hundred_years_are_fine() -> None:
    lab = Lab(clock=ManualClock(4_102_444_800.0), idle_timeout=timedelta(days=36500), absolute_timeout=None)
    await lab.begin()
    async with lab.visitor.request() as session:
        assert (session.created_at, session.expires_at.year) == (datetime(2100, 1, 1, tzinfo=UTC), 2199)
    lab.clock.advance(36499 * DAY)
    assert await look(lab)
