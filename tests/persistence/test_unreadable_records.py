"""Records that cannot be opened: no session, an event, and never overwritten."""

from functools import partial
from hashlib import sha256

import msgspec
import pytest
from tests.kit import Lab
from tests.views import Visitor, response_to

from sessioncore import EventKind, SessionEvent, SessionNotFound, SessionTooLarge, StorageError, Stored

pytestmark = pytest.mark.anyio

SID = "s" * 43
KEY = "session:" + sha256(SID.encode()).hexdigest()
FUTURE = msgspec.msgpack.encode([99, 1.0, 1.0, None, None, {}, {}, "new"])


async def there(lab: Lab, key: str = KEY) -> bytes:
    stored = await lab.storage.inner.load(key)
    assert isinstance(stored, Stored)
    return stored.data


@pytest.mark.proves("AT-58", "AT-70", "ASVS 16.3.3")
async def test_a_record_that_cannot_be_opened_is_no_session_and_stays_for_inspection() -> None:
    for data in (b"", b"\xc1", b"{}", b"not a record", b"\x90", b"\x93\x01\x02\x03", FUTURE, b"x" * 70000):
        lab = Lab()
        assert await lab.storage.inner.create(KEY, data, 600) is not None
        visitor = Visitor(lab.store, sid=SID)
        async with visitor.request() as session:
            assert session.fresh
            assert session.id != SID
            session["n"] = 1
        assert visitor.sid not in {None, SID}
        assert await there(lab) == data
        with pytest.raises(SessionNotFound):
            await lab.store.get_by_id(SID)
        told = lab.sent(EventKind.CORRUPT)
        assert [event.handle for event in told] == [KEY[8:]] * 2
        assert ("has format 99 of a newer sessioncore" in told[0].detail) is (data is FUTURE)
        assert await lab.store.delete(SID)


@pytest.mark.proves("P2")
@pytest.mark.parametrize("verb", ["destroy", "reset"])
@pytest.mark.parametrize("kind", [EventKind.CORRUPT, EventKind.EXPIRED])
async def test_a_logout_ends_a_record_that_only_other_processes_can_use(verb: str, kind: EventKind) -> None:
    """This happens while a newer release is deployed, with another `max_size`, or if this machine's clock is ahead."""
    lab = Lab()
    await lab.begin(n="x" * 2000)
    told: list[SessionEvent] = []
    other = {"max_size": 1000} if kind is EventKind.CORRUPT else {"clock": lambda: lab.clock() + 86_400}
    visitor = Visitor(lab.beside(**other, on_event=told.append), sid=lab.visitor.sid)
    async with visitor.request() as session:
        session["other"] = 1
        await getattr(session, verb)()
        assert len(told) == 2
        await session.destroy()  # again: there is nothing left to end
    assert visitor.sid is None
    handle = sha256((lab.visitor.sid or "").encode()).hexdigest()
    assert [(one.kind, one.handle) for one in told] == [(kind, handle), (EventKind.DESTROYED, handle)]
    with pytest.raises(SessionNotFound):
        await lab.store.get_by_id(lab.visitor.sid or "")


async def test_a_record_that_became_unreadable_while_a_request_worked_is_not_overwritten(lab: Lab) -> None:
    exchange = await lab.begin_request()
    exchange.session["n"] = 2
    key = "session:" + exchange.session.handle

    async def rewrite() -> None:
        stored = await lab.stored(exchange.session)
        await lab.storage.inner.replace(key, FUTURE, 600, version=stored.version)

    lab.storage.before["replace"] = rewrite
    for store in (exchange.session.save, partial(exchange.commit, 200)):
        with pytest.raises(StorageError, match="cannot be read here") as caught:
            await store()
    told = lab.sent(EventKind.CORRUPT)
    assert [event.handle for event in told] == [key[8:]] * 2
    assert "has format 99" in told[0].detail
    assert response_to(exchange, caught.value).status == 500
    await exchange.finish(failed=True)
    assert await there(lab, key) == FUTURE


@pytest.mark.proves("AT-69")
async def test_a_session_that_is_too_large_is_refused_before_any_write_or_read_and_the_stored_one_stays() -> None:
    lab = Lab(max_size=1000)
    await lab.begin()
    with pytest.raises(SessionTooLarge, match=r"max_size is 1000; store less"):
        async with lab.visitor.request() as session:
            session["n"] = "x" * 2000
    with pytest.raises(SessionTooLarge):
        await lab.store.create({"n": "x" * 2000})
    assert lab.calls == ["load"]
    with pytest.raises(SessionNotFound):  # as after `max_size` was reduced
        await lab.beside(max_size=10).get_by_id(lab.visitor.sid or "")
    assert await lab.data() == {"n": 1}
