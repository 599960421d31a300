"""The Max-Age of the session cookie, and when the cookie is sent again."""

from datetime import timedelta

import pytest
from tests.kit import Lab, max_age

from sessioncore import chain, from_cookie, from_header

pytestmark = pytest.mark.anyio

DAY = 86400.0


async def test_without_a_deadline_the_cookie_follows_the_idle_clock() -> None:
    lab = Lab(absolute_timeout=None)
    await lab.begin()
    assert max_age(lab.visitor.headers) == 1800
    async with lab.visitor.request() as session:
        assert session["n"] == 1
    assert lab.visitor.headers == []
    lab.clock.advance(61)
    async with lab.visitor.request():
        pass  # the cookie is sent also where the handler did not look
    assert max_age(lab.visitor.headers) == 1800
    assert lab.visitor.headers[0][1].startswith(f"__Host-session_id={lab.visitor.sid};")
    lab.clock.advance(61)
    async with lab.visitor.request() as session:
        session["n"] = 2
    assert max_age(lab.visitor.headers) == 1800
    lab.clock.advance(61)
    async with lab.visitor.request() as session:
        session.release()
    assert max_age(lab.visitor.headers) == 1800
    async with lab.visitor.request() as session:
        session.set_idle_timeout(timedelta(days=7))
    assert max_age(lab.visitor.headers) == 7 * DAY
    lab.clock.advance(6 * DAY)
    async with lab.visitor.request() as session:
        session.set_idle_timeout(None)
    assert max_age(lab.visitor.headers) == 1800


async def test_without_a_deadline_a_touch_interval_of_zero_sends_the_cookie_each_time_and_the_header_once() -> None:
    places = chain(from_cookie("__Host-session_id"), from_header("X-Session"))
    lab = Lab(absolute_timeout=None, touch_interval=timedelta(), extractor=places)
    await lab.begin()
    assert [name for name, _ in lab.visitor.headers] == ["set-cookie", "x-session"]
    async with lab.visitor.request():
        pass
    assert [name for name, _ in lab.visitor.headers] == ["set-cookie"]
    assert max_age(lab.visitor.headers) == 1800
