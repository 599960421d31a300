"""Attack list F: when a session ends, with the clocks of store and storage moved by hand."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.numbers import scaled
from tests.stores import SpyStorage
from tests.views import PlainView, Visitor

from sessioncore import (
    MemoryStorage,
    Session,
    SessionConfig,
    SessionEvent,
    SessionGone,
    SessionNotFound,
    SessionStore,
    Stored,
)
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
E = 0.001  # as near as a test comes to a deadline


class House:
    """A store and a storage on one clock."""

    def __init__(self, clock: ManualClock | None = None, storage: SpyStorage | None = None, **config: Any) -> None:
        self.clock = clock or ManualClock()
        self.storage = storage or SpyStorage(self.clock)
        self.events: list[SessionEvent] = []
        self.store = SessionStore(
            SessionConfig(storage=self.storage, clock=self.clock, on_event=self.events.append, **config)
        )

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    async def begin(self) -> Visitor:
        visitor = Visitor(self.store)
        exchange = await visitor.arrive()
        exchange.session["n"] = 1
        await visitor.leave(exchange)
        self.storage.calls.clear()
        self.events.clear()
        return visitor

    async def ttl(self, session: Session) -> float:
        stored = await self.storage.inner.load(self.store.config.key_prefix + session.handle)
        assert isinstance(stored, Stored)
        return stored.ttl


async def look(visitor: Visitor) -> bool:
    """Make a request that reads; True if the session was there."""
    exchange = await visitor.arrive()
    found = not exchange.session.fresh and exchange.session["n"] == 1
    await visitor.leave(exchange)
    return found


def max_age(headers: list[tuple[str, str]]) -> int | None:
    """The Max-Age of the cookie that these headers set, if they set one."""
    for _, value in headers:
        if match := re.search(r"Max-Age=(\d+)", value):
            return int(match[1])
    return None


# -- idle


@pytest.mark.parametrize(("away", "found"), [(1800 - E, True), (1800, False), (1800 + E, False)])
async def test_a_session_ends_when_it_was_idle_for_the_idle_timeout(away: float, found: bool) -> None:
    house = House()
    visitor = await house.begin()
    house.clock.advance(away)
    assert await look(visitor) is found
    assert house.kinds() == (["renewed"] if found else ["unknown"])


async def test_use_keeps_a_session_alive() -> None:
    house = House(absolute_timeout=None)
    visitor = await house.begin()
    for _ in range(50):
        house.clock.advance(1790)
        assert await look(visitor)


@settings(max_examples=scaled(50))
@given(st.lists(st.floats(0, 60), max_size=30), st.floats(0.01, 3600))
def test_after_its_last_use_a_session_ends_within_touch_interval_of_its_idle_timeout(
    pauses: list[float], away: float
) -> None:
    house = House(touch_interval=timedelta(seconds=60), absolute_timeout=None)

    async def story() -> None:
        visitor = await house.begin()
        for pause in pauses:
            house.clock.advance(pause)
            assert await look(visitor)
        house.clock.advance(away)
        found = await look(visitor)
        if away < 1740 - E:
            assert found
        if away >= 1800 + E:
            assert not found

    anyio.run(story)


async def test_the_idle_clock_is_renewed_at_most_once_in_a_touch_interval() -> None:
    house = House()
    visitor = await house.begin()
    for _ in range(1000):
        house.clock.advance(0.05)
        assert await look(visitor)
    assert house.storage.calls.count("touch") == 0
    house.clock.advance(10)
    for _ in range(1000):
        house.clock.advance(0.05)
        assert await look(visitor)
    assert house.storage.calls.count("touch") == 1
    assert set(house.storage.calls) == {"load", "touch"}
    assert house.kinds() == ["renewed"]


async def test_a_write_renews_the_idle_clock_by_itself() -> None:
    house = House()
    visitor = await house.begin()
    house.clock.advance(120)
    exchange = await visitor.arrive()
    exchange.session["m"] = 1
    await visitor.leave(exchange)
    assert house.storage.calls == ["load", "replace"]
    house.clock.advance(1799)
    assert await look(visitor)


async def test_a_touch_interval_of_zero_renews_with_each_load_in_the_same_trip() -> None:
    house = House(touch_interval=timedelta())
    visitor = await house.begin()
    for _ in range(5):
        house.clock.advance(1799)
        assert await look(visitor)
    assert house.storage.calls == ["load"] * 5


async def test_a_touch_interval_of_zero_keeps_to_an_own_idle_timeout() -> None:
    house = House(touch_interval=timedelta())
    visitor = await house.begin()
    exchange = await visitor.arrive()
    exchange.session.set_idle_timeout(timedelta(minutes=5))
    await visitor.leave(exchange)
    house.clock.advance(299)
    assert await look(visitor)
    house.clock.advance(299)
    assert await look(visitor)
    house.clock.advance(300)
    assert not await look(visitor)


async def test_a_touch_that_fails_is_told_and_the_request_goes_on() -> None:
    house = House()
    visitor = await house.begin()
    house.clock.advance(120)
    house.storage.fail("touch")
    assert await look(visitor)
    assert house.kinds() == ["storage_error"]
    assert house.events[0].detail.startswith("touch: ")
    house.storage.restore()
    assert await look(visitor)
    assert house.kinds() == ["storage_error", "renewed"]


async def test_a_touch_of_a_session_that_was_ended_meanwhile_brings_nothing_back() -> None:
    house = House()
    visitor = await house.begin()
    house.clock.advance(120)
    exchange = await visitor.arrive()
    assert exchange.session["n"] == 1
    assert await house.store.delete(visitor.sid or "")
    assert await visitor.leave(exchange) == []
    assert house.kinds() == ["destroyed", "gone"]
    assert len(house.storage.inner) == 0


async def test_a_touch_leaves_the_data_of_another_request_alone() -> None:
    house = House()
    visitor = await house.begin()
    house.clock.advance(120)
    reader = await visitor.arrive()
    writer = await visitor.arrive()
    writer.session["m"] = 2
    await visitor.leave(writer)
    await visitor.leave(reader)
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"n": 1, "m": 2}


async def test_a_request_that_outlasts_the_idle_timeout_stores_nothing() -> None:
    house = House()
    visitor = await house.begin()
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    house.clock.advance(1801)
    with pytest.raises(SessionGone):
        await exchange.session.save()
    assert await visitor.leave(exchange) == []
    assert not await look(visitor)


async def test_looking_through_the_store_does_not_renew() -> None:
    house = House(touch_interval=timedelta())
    visitor = await house.begin()
    house.clock.advance(1000)
    assert (await house.store.get_by_id(visitor.sid or ""))["n"] == 1
    house.clock.advance(801)
    with pytest.raises(SessionNotFound):
        await house.store.get_by_id(visitor.sid or "")


# -- absolute


@pytest.mark.parametrize(("last", "found"), [(-E, True), (0, False), (E, False)])
@pytest.mark.parametrize("interval", [0, 60])
async def test_constant_use_ends_exactly_at_the_absolute_deadline(last: float, found: bool, interval: int) -> None:
    house = House(absolute_timeout=timedelta(hours=2), touch_interval=timedelta(seconds=interval))
    visitor = await house.begin()
    for _ in range(7):
        house.clock.advance(1000)
        assert await look(visitor)
    house.clock.advance(200 + last)
    assert await look(visitor) is found


async def test_the_record_decides_where_a_storage_keeps_too_long() -> None:
    clock = ManualClock()
    house = House(clock, SpyStorage(lambda: 0.0), absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    await house.store.create({}, owner="ada")
    clock.advance(HOUR - E)
    assert await look(visitor)
    assert len(await house.store.sessions_of("ada")) == 1
    clock.advance(E)
    assert not await look(visitor)
    assert house.kinds()[-1] == "expired"
    assert await house.store.sessions_of("ada") == []
    with pytest.raises(SessionNotFound):
        await house.store.get_by_id(visitor.sid or "")


async def test_a_write_after_the_deadline_is_dropped_where_a_storage_keeps_too_long() -> None:
    clock = ManualClock()
    house = House(clock, SpyStorage(lambda: 0.0), absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    reader = await visitor.arrive()
    clock.advance(HOUR)
    assert await visitor.leave(exchange) == []
    assert house.kinds() == ["expired"]
    house.storage.calls.clear()
    await visitor.leave(reader)
    assert house.storage.calls == []
    assert not await look(visitor)


async def test_the_storage_never_keeps_longer_than_the_absolute_deadline() -> None:
    house = House(absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    house.clock.advance(1700)
    assert await look(visitor)
    house.clock.advance(1000)
    exchange = await visitor.arrive()
    exchange.session["m"] = 1
    await visitor.leave(exchange)
    assert await house.ttl((await visitor.arrive()).session) == pytest.approx(900)


async def test_regenerate_keeps_the_deadline_and_login_begins_both_clocks_anew() -> None:
    house = House(absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    house.clock.advance(1700)
    exchange = await visitor.arrive()
    await exchange.session.regenerate()
    headers = await visitor.leave(exchange)
    assert max_age(headers) == 1900
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    headers = await visitor.leave(exchange)
    assert max_age(headers) == 3600
    for _ in range(3):
        house.clock.advance(1199)
        assert await look(visitor)
    house.clock.advance(3)
    assert not await look(visitor)


async def test_an_own_idle_timeout_never_reaches_over_the_absolute_deadline() -> None:
    house = House(absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    exchange = await visitor.arrive()
    exchange.session.set_idle_timeout(timedelta(days=30))
    await visitor.leave(exchange)
    house.clock.advance(HOUR - E)
    assert await look(visitor)
    house.clock.advance(E)
    assert not await look(visitor)


async def test_remember_me_outlives_the_configured_idle_timeout() -> None:
    house = House(absolute_timeout=timedelta(days=30))
    visitor = await house.begin()
    exchange = await visitor.arrive()
    exchange.session.set_idle_timeout(timedelta(days=7))
    await visitor.leave(exchange)
    for _ in range(4):
        house.clock.advance(6 * DAY)
        assert await look(visitor)
    house.clock.advance(6 * DAY)
    assert not await look(visitor)


# -- the cookie's Max-Age


async def test_the_cookie_lasts_to_the_absolute_deadline_and_reads_send_none() -> None:
    house = House()
    visitor = await house.begin()
    assert max_age(visitor.headers) == 86400
    for _ in range(100):
        house.clock.advance(600)
        exchange = await visitor.arrive()
        assert exchange.session["n"] == 1
        assert await visitor.leave(exchange) == []


@pytest.mark.parametrize(("absolute", "seconds"), [(1799.4 + 1, 1800), (1800.6, 1801), (500 * DAY, 400 * DAY)])
async def test_max_age_is_rounded_to_seconds_and_clamped_at_400_days(absolute: float, seconds: int) -> None:
    house = House(absolute_timeout=timedelta(seconds=absolute))
    visitor = await house.begin()
    assert max_age(visitor.headers) == seconds


async def test_without_a_deadline_the_cookie_follows_the_idle_clock() -> None:
    house = House(absolute_timeout=None)
    visitor = await house.begin()
    assert max_age(visitor.headers) == 1800
    exchange = await visitor.arrive()
    assert exchange.session["n"] == 1
    assert await visitor.leave(exchange) == []
    house.clock.advance(61)
    exchange = await visitor.arrive()
    headers = await visitor.leave(exchange)  # also where the handler did not look
    assert max_age(headers) == 1800
    assert headers[0][1].startswith(f"__Host-session_id={visitor.sid};")
    house.clock.advance(61)
    exchange = await visitor.arrive()
    exchange.session["n"] = 2
    assert max_age(await visitor.leave(exchange)) == 1800
    house.clock.advance(61)
    exchange = await visitor.arrive()
    exchange.session.set_idle_timeout(timedelta(hours=10))
    assert max_age(await visitor.leave(exchange)) == 36000


async def test_without_a_deadline_a_touch_interval_of_zero_sends_the_cookie_each_time() -> None:
    house = House(absolute_timeout=None, touch_interval=timedelta())
    visitor = await house.begin()
    exchange = await visitor.arrive()
    assert max_age(await exchange.commit(200)) == 1800
    await exchange.finish()


async def test_a_cookie_for_the_browser_session_has_no_max_age_and_is_sent_once() -> None:
    house = House(absolute_timeout=None, cookie_session_only=True)
    visitor = await house.begin()
    assert max_age(visitor.headers) is None
    assert visitor.headers[0][0] == "set-cookie"
    house.clock.advance(61)
    exchange = await visitor.arrive()
    assert await visitor.leave(exchange) == []
    assert house.kinds() == ["renewed"]


# -- clocks that jump, configurations that change


async def test_a_clock_that_jumps_ahead_ends_sessions_early_and_nothing_else() -> None:
    house = House()
    visitor = await house.begin()
    house.clock.advance(2 * DAY)
    assert not await look(visitor)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    assert await look(visitor)


async def test_a_clock_that_is_set_back_makes_nothing_immortal() -> None:
    house = House(absolute_timeout=timedelta(hours=2))
    visitor = await house.begin()
    house.clock.advance(-HOUR)
    assert await look(visitor)
    alive = 0.0
    while await look(visitor):
        house.clock.advance(600)
        alive += 600
    assert alive <= 3 * HOUR + 600  # the two hours, and the one that the clock lost


async def test_a_server_whose_clock_differs_from_the_storages_ends_sessions_early_by_no_more() -> None:
    storage_clock, skew = ManualClock(), 5.0
    clock = ManualClock(storage_clock() + skew)
    house = House(clock, SpyStorage(storage_clock))
    visitor = await house.begin()
    for moving in (clock, storage_clock):
        moving.advance(1800 - skew - E)
    assert await look(visitor)
    for moving in (clock, storage_clock):
        moving.advance(1800 + E)
    assert not await look(visitor)


async def test_a_shorter_idle_timeout_holds_for_sessions_that_are_there_from_their_next_use() -> None:
    house = House(idle_timeout=timedelta(hours=10))
    visitor = await house.begin()
    house.clock.advance(10)
    shorter = House(house.clock, house.storage, idle_timeout=timedelta(minutes=5))
    visitor.store = shorter.store
    assert await look(visitor)
    assert shorter.kinds() == ["renewed"]
    shorter.clock.advance(300 + E)
    assert not await look(visitor)


async def test_a_longer_idle_timeout_holds_from_the_next_use() -> None:
    house = House(idle_timeout=timedelta(minutes=5))
    visitor = await house.begin()
    longer = House(house.clock, house.storage, idle_timeout=timedelta(hours=10))
    visitor.store = longer.store
    assert await look(visitor)
    longer.clock.advance(9 * HOUR)
    assert await look(visitor)


async def test_a_shorter_absolute_timeout_holds_at_once() -> None:
    house = House(absolute_timeout=timedelta(hours=24))
    visitor = await house.begin()
    for _ in range(4):
        house.clock.advance(1700)
        assert await look(visitor)
    shorter = House(house.clock, house.storage, absolute_timeout=timedelta(hours=1))
    visitor.store = shorter.store
    assert not await look(visitor)
    assert shorter.kinds() == ["expired"]


# -- what it says about its end


async def test_expires_at_is_when_it_ends() -> None:
    house = House()
    visitor = await house.begin()
    now = house.clock()
    exchange = await visitor.arrive()
    assert exchange.session.expires_at == datetime.fromtimestamp(now + 1800, UTC)
    await visitor.leave(exchange)
    house.clock.advance(59)
    exchange = await visitor.arrive()  # not stale enough: it ends 1800 s after the last renewal
    assert exchange.session.expires_at == datetime.fromtimestamp(now + 1800, UTC)
    await visitor.leave(exchange)
    house.clock.advance(2)
    exchange = await visitor.arrive()  # stale: this request renews it
    assert exchange.session.expires_at == datetime.fromtimestamp(now + 61 + 1800, UTC)
    await visitor.leave(exchange)
    listed = await house.store.get_by_id(visitor.sid or "")
    assert listed.expires_at == datetime.fromtimestamp(now + 61 + 1800, UTC)


async def test_expires_at_is_cut_at_the_absolute_deadline() -> None:
    house = House(absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    began = house.clock()
    for _ in range(2):
        house.clock.advance(1190)
        assert await look(visitor)
    exchange = await visitor.arrive()
    assert exchange.session.expires_at == datetime.fromtimestamp(began + 3600, UTC)


async def test_dates_beyond_2038_are_fine() -> None:
    house = House(ManualClock(4_102_444_800.0))
    visitor = await house.begin()
    exchange = await visitor.arrive()
    assert exchange.session.created_at == datetime(2100, 1, 1, tzinfo=UTC)
    assert exchange.session.expires_at.year == 2100


async def test_a_session_of_a_hundred_years_can_be_kept() -> None:
    house = House(idle_timeout=timedelta(days=36500), absolute_timeout=None)
    visitor = await house.begin()
    house.clock.advance(36499 * DAY)
    assert await look(visitor)
    assert max_age(visitor.headers) == 400 * DAY


async def test_memory_storage_and_config_take_a_clock_each() -> None:
    clock = ManualClock()
    store = SessionStore(SessionConfig(storage=MemoryStorage(clock=clock)))
    session = await store.create()
    clock.advance(1801)
    with pytest.raises(SessionNotFound):
        await store.get_by_id(session.id)


async def test_a_stale_session_that_meets_its_deadline_during_the_request_is_not_renewed() -> None:
    clock = ManualClock()
    house = House(clock, SpyStorage(lambda: 0.0), absolute_timeout=timedelta(hours=1))
    visitor = await house.begin()
    clock.advance(3000)
    exchange = await visitor.arrive()
    clock.advance(600)
    assert await visitor.leave(exchange) == []
    assert house.storage.calls == ["load"]


async def test_the_store_pattern_renews_for_a_caller_who_only_reads() -> None:
    house = House()
    visitor = await house.begin()
    for _ in range(3):
        house.clock.advance(1700)
        session = await house.store.get(PlainView([f"__Host-session_id={visitor.sid}".encode()]))
        assert session["n"] == 1
        session.release()
    assert house.kinds() == ["renewed"] * 3


# -- save() is use


@pytest.mark.parametrize("value", [1, 2])
async def test_a_save_resets_the_idle_timer_whether_or_not_it_changes_anything(value: int) -> None:
    house = House()
    visitor = await house.begin()
    session = await house.store.get_by_id(visitor.sid or "")
    for _ in range(5):
        house.clock.advance(1200)
        session["n"] = value
        await session.save()
        assert await house.ttl(session) == 1800
    house.clock.advance(1200)
    async with house.store.open(visitor.sid or ""):
        pass
    assert await house.ttl(session) == 1800


async def test_saves_within_touch_interval_cost_no_call() -> None:
    house = House()
    visitor = await house.begin()
    session = await house.store.get_by_id(visitor.sid or "")
    house.clock.advance(59)
    await session.save()
    assert house.storage.calls == ["load"]
    house.clock.advance(2)
    await session.save()
    await session.save()
    assert house.storage.calls == ["load", "touch"]


async def test_a_session_that_was_released_early_is_renewed_all_the_same() -> None:
    house = House(absolute_timeout=None)
    visitor = await house.begin()
    house.clock.advance(1000)
    exchange = await visitor.arrive()
    session = exchange.session
    assert session["n"] == 1
    handle = session.handle
    session.release()
    assert max_age(await visitor.leave(exchange)) == 1800
    stored = await house.storage.inner.load(f"session:{handle}")
    assert isinstance(stored, Stored)
    assert stored.ttl == 1800
    assert house.kinds() == ["renewed"]
