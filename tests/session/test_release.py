"""A session whose request is over, or that was released: it can be read, but not changed."""

import gc
import weakref
from collections.abc import Callable
from functools import partial

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab
from tests.views import PlainView, response_to

from sessioncore import LifecycleError, SessionError, SessionKey, SessionReleased

pytestmark = pytest.mark.anyio


async def test_a_released_session_shows_what_is_stored_and_takes_no_change(lab: Lab) -> None:
    exchange = await lab.begin_request(cart=["tea"])
    session = exchange.session
    session["n"] = 1
    session.release()
    session.release()
    assert (dict(session), session.id, session.fresh) == ({"cart": ["tea"]}, lab.visitor.sid, False)
    assert (session.owner, session.details, session.modified, session.accessed) == (None, {}, False, True)
    assert repr(session) == f"<Session handle={session.handle} fresh=False keys=1>"
    empty = await lab.store.create()
    empty.release()
    changes: list[Callable[[], object]] = [
        empty.popitem, lambda: empty.__delitem__("x"), lambda: session.update(n=2), lambda: session.pop("cart"),
        session.update, lambda: session.delete("x"), lambda: session.pop("x", 1), session.clear,
        lambda: session.setdefault("cart"), lambda: session.mutate("n", lambda n: n, default=1),
        lambda: session.bind_owner("ada"), lambda: session.set_idle_timeout(None), empty.clear,
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(SessionReleased, match=r"by release\(\) or .*store\.open"):
            change()
    login = partial(session.login, "ada")
    for verb in (session.save, session.reload, session.regenerate, session.reset, session.destroy, login):
        with pytest.raises(SessionReleased) as caught:
            await verb()
    assert lab.calls == ["load", "create"]
    assert isinstance(caught.value, (LifecycleError, SessionError, RuntimeError))
    assert await lab.visitor.leave(exchange) == []
    assert await lab.data() == dict(session) == {"cart": ["tea"]}
    error = response_to(exchange, caught.value)
    assert (error.status, "set-cookie" in dict(error.headers)) == (500, False)
    with pytest.raises(SessionReleased):
        session["n"] = 1


async def test_what_changes_inside_a_value_of_a_released_session_is_stored_nowhere(lab: Lab) -> None:
    await lab.begin(cart=["tea"])
    notes = SessionKey("notes", list[str], default_factory=list)
    async with lab.visitor.request() as session:
        session.release()
        session["cart"].append("milk")
        session[notes].append("first")
        assert list(session) == ["cart"]
    session[notes].append("second")
    assert not session.get("other")
    assert lab.calls == ["load"]
    assert await lab.data() == {"cart": ["tea"]}


@pytest.mark.parametrize("rotate", [False, True])
async def test_what_was_saved_before_the_release_reaches_the_client_and_the_rest_is_dropped(rotate: bool) -> None:
    lab = Lab()
    if rotate:
        await lab.begin()
    old = lab.visitor.sid
    async with lab.visitor.request() as session:
        session["n"] = 2
        if rotate:
            await session.regenerate()
        await session.save()
        await session.regenerate()
        session["late"] = 3
        session.release()
    assert lab.visitor.sid not in {None, old}
    assert lab.visitor.sid == session.id
    assert await lab.data() == {"n": 2}


async def test_a_session_that_was_released_early_is_renewed_all_the_same(lab: Lab) -> None:
    await lab.begin()
    lab.clock.advance(1000)
    async with lab.visitor.request() as session:
        session.release()
    assert ((await lab.stored(session)).ttl, lab.kinds()) == (1800, ["renewed"])


async def test_a_logout_before_the_release_clears_the_cookie(lab: Lab) -> None:
    await lab.begin()
    async with lab.visitor.request() as session:
        await session.destroy()
        session.release()
    assert lab.visitor.sid is None
    assert "Max-Age=0" in lab.visitor.headers[0][1]
    assert repr(session) == "<Session handle=None fresh=True keys=0>"


async def test_a_session_that_was_never_loaded_cannot_be_read_or_loaded_afterwards(lab: Lab) -> None:
    await lab.begin()
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
    await exchange.finish()
    await exchange.load()
    with pytest.raises(SessionReleased, match=r"never loaded.*middleware.*inside.*store\.open"):
        await exchange.load(required=True)
    with pytest.raises(SessionReleased):
        exchange.session.get("n")
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 2
    exchange.session.release()
    assert lab.calls == []
    for early in (False, True):
        unused = lab.store.exchange(PlainView())
        await unused.load()
        unused.session.release() if early else await unused.finish()
        await unused.commit(200)
        with pytest.raises(SessionReleased):
            unused.session["n"] = 2


@BOTH_LOOPS
async def test_a_load_that_ends_after_its_request_gives_no_session_that_could_be_written(lab: Lab) -> None:
    await lab.begin()
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
    held = lab.storage.hold("load")

    async def load() -> None:
        await exchange.load()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        await held.entered.wait()
        await exchange.finish()
        held.release()
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 2


class _View(PlainView, weakref=True):
    pass


async def test_an_exchange_that_never_loaded_keeps_no_reference_to_its_request() -> None:
    view = _View()
    exchange, there = Lab().store.exchange(view), weakref.ref(view)
    await exchange.finish()
    gc.disable()
    try:
        del view
        assert there() is None
    finally:
        gc.enable()
