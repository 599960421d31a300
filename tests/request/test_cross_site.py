"""What requests of other sites may do with a session (promise P8), by the place of its ID, the use and the setting."""

from typing import Any

import pytest
from tests.cross_site_requests import (
    EVIL,
    NAME,
    PAY,
    PLACES,
    READS,
    WRITES,
    bind,
    change_default,
    forged,
    nothing,
    refused,
    set_idle,
)
from tests.kit import Lab, Reply, Work, destroy, login, mutate, read, regenerate, reset, serve, write
from tests.stores import AlternatingStorage, SpyStorage, SuspendingStorage
from tests.views import response_to

from sessioncore import CrossSiteRequest, Extractor, Session, Source, StorageUnavailable, chain, from_header, from_query

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[SpyStorage, SuspendingStorage, AlternatingStorage])
def lab(request: pytest.FixtureRequest) -> Lab:
    return Lab(kind=request.param, extractor=PLACES, trusted_origins=[PAY])


# -- the ID came in a cookie, or there is none


@pytest.mark.proves("P8", "ASVS 3.5.1")
@pytest.mark.parametrize("work", [*READS, *WRITES])
async def test_a_session_in_a_cookie_cannot_be_used_and_the_storage_is_not_asked(lab: Lab, work: Work) -> None:
    visitor = await lab.begin(n=1)
    reply = await serve(lab.store, forged(visitor.sid), work)
    assert refused(reply)
    assert (reply.all("set-cookie"), reply.all("x-sid"), lab.calls) == ([], [], [])
    [event] = lab.events
    assert (event.kind.value, event.handle, event.detail) == ("cross_site", None, f"POST from {EVIL}")
    assert await lab.data() == {"n": 1}


async def test_any_session_cookie_counts_also_one_that_is_empty_malformed_unknown_or_there_twice(lab: Lab) -> None:
    visitor = await lab.begin()
    for cookies in ([b"="], [b"=???"], [b"=" + b"u" * 43], [b"=a", b"=b"]):
        view = forged()
        view.cookies = [NAME.encode() + cookie for cookie in cookies]
        assert refused(await serve(lab.store, view, read))
    other_cookie = forged()
    other_cookie.cookies = [f"theme={visitor.sid}".encode()]
    assert (await serve(lab.store, other_cookie, read)).error is None
    assert (lab.calls, lab.kinds()) == ([], ["cross_site"] * 4)


@pytest.mark.parametrize("work", READS)
async def test_without_a_cookie_nothing_is_withheld_and_the_session_reads_as_fresh(lab: Lab, work: Work) -> None:
    reply = await serve(lab.store, forged(), work)
    assert (reply.error, reply.headers) == (None, [("vary", "Cookie, X-Sid, Authorization")])
    assert (lab.calls, lab.events) == ([], [])


@pytest.mark.proves("P8")
@pytest.mark.parametrize("work", WRITES)
async def test_without_a_cookie_the_first_write_or_verb_is_refused_and_reported_once(lab: Lab, work: Work) -> None:
    async def twice(session: Session) -> None:
        assert (session.get("n"), session.fresh, session.empty) == (None, True, True)
        if work is not change_default:  # this is not noticed before the commit
            with pytest.raises(CrossSiteRequest, match="trusted_origins"):
                await work(session)
        await work(session)

    reply = await serve(lab.store, forged(), twice)
    assert refused(reply)
    assert (reply.all("set-cookie"), lab.calls, lab.kinds()) == ([], [], ["cross_site"])


async def test_a_route_that_uses_no_session_answers_as_usual(lab: Lab) -> None:
    visitor = await lab.begin()
    for view in (forged(visitor.sid), forged()):
        assert await serve(lab.store, view, nothing) == Reply([])
        exchange = lab.store.exchange(view)
        await exchange.load()
        assert not await exchange.commit(500)  # the application's own error
        await exchange.finish()
    assert (lab.calls, lab.events) == ([], [])


async def test_a_refused_session_says_the_same_after_its_request_without_another_event(lab: Lab) -> None:
    visitor = await lab.begin()
    used, unused = lab.store.exchange(forged(visitor.sid)), lab.store.exchange(forged(visitor.sid))
    for exchange in (used, unused):
        await exchange.load()
    with pytest.raises(CrossSiteRequest):
        used.session.get("n")
    for exchange in (used, unused):
        await exchange.finish()
    assert lab.kinds() == ["cross_site"]
    with pytest.raises(CrossSiteRequest):
        used.session.get("n")
    anonymous = lab.store.exchange(forged())
    await anonymous.load()
    assert anonymous.session.get("n") is None
    await lab.visitor.leave(anonymous)
    assert anonymous.session.get("n") is None
    with pytest.raises(CrossSiteRequest):
        await write(anonymous.session)


async def test_the_answer_is_403_even_if_the_framework_hides_the_error_and_on_error_may_replace_it(lab: Lab) -> None:
    visitor = await lab.begin()
    exchange = lab.store.exchange(forged())
    await exchange.load()
    with pytest.raises(CrossSiteRequest):
        await write(exchange.session)
    with pytest.raises(CrossSiteRequest):
        await exchange.commit(500)  # outside of the framework's except block
    exchange = lab.store.exchange(forged(visitor.sid))
    await exchange.load()
    with pytest.raises(CrossSiteRequest) as first:
        await read(exchange.session)
    hiding = RuntimeError("the page cannot be shown")
    hiding.__cause__ = first.value
    answer = response_to(exchange, hiding)
    await exchange.finish()
    assert (answer.status, answer.body) == (403, b"Forbidden")
    assert all(text not in str(answer) for text in ("attacker", visitor.sid or "-"))

    def hide(view: Any, error: Exception) -> tuple[int, str]:
        return 404, f"{view.method} {type(error).__name__}"

    exchange = lab.beside(on_error=hide).exchange(forged(visitor.sid))
    await exchange.load()
    with pytest.raises(CrossSiteRequest) as caught:
        await read(exchange.session)
    assert response_to(exchange, caught.value).status == 404


# -- the ID came in another way


@pytest.mark.parametrize("place", ["header", "authorization"])
@pytest.mark.parametrize("cookie_too", [False, True])
async def test_a_headers_session_is_used_freely_and_writes_no_cookie(lab: Lab, place: str, cookie_too: bool) -> None:
    other = (await lab.store.create({"n": 5})).id

    async def served(work: Work) -> tuple[Reply, str]:
        sid = (await lab.store.create({"n": 1})).id
        lab.forget()
        view = forged(sid, place=place)
        if cookie_too:
            view.cookies = [f"{NAME}={other}".encode()]
        return await serve(lab.store, view, work), sid

    for work in (read, write, mutate, bind, set_idle):
        reply, sid = await served(work)
        assert (reply.error, reply.all("set-cookie"), reply.all("x-sid")) == (None, [], [])
    for work in (login, regenerate):
        reply, sid = await served(work)
        [new_id] = reply.all("x-sid")
        assert (reply.error, reply.all("set-cookie"), await lab.data(sid)) == (None, [], None)
        assert await lab.data(new_id) == {"n": 1}
    for work in (reset, destroy):
        reply, sid = await served(work)
        ids = [""] if place == "header" else []  # a response cannot clear a bearer token
        assert (reply.error, reply.all("set-cookie"), reply.all("x-sid"), await lab.data(sid)) == (None, [], ids, None)
    assert await lab.data(other) == {"n": 5}
    assert "cross_site" not in lab.kinds()


@pytest.mark.proves("P8")
@pytest.mark.parametrize("place", ["query", "form"])
async def test_a_call_that_needs_a_new_id_for_a_session_from_a_url_or_form_is_refused(lab: Lab, place: str) -> None:
    async def write_after(end: Work) -> Work:
        async def both(session: Session) -> None:
            await end(session)
            await write(session)

        return both

    allowed: list[Work] = [read, write, mutate, bind, set_idle, reset, destroy]
    for work in [*allowed, login, regenerate, await write_after(reset), await write_after(destroy)]:
        sid = (await lab.store.create({"n": 1})).id
        lab.forget()
        reply = await serve(lab.store, forged(sid, place=place), work)
        assert refused(reply) == (work not in allowed), work
        assert (reply.all("set-cookie"), reply.all("x-sid")) == ([], [])
        assert lab.kinds("created", "destroyed") == ["cross_site"] * refused(reply)
    sid = (await lab.store.create({"n": 1})).id
    assert (await serve(lab.store, forged(sid, place=place, site="same-origin"), login)).cookies.keys() == {NAME}


async def test_an_id_of_no_session_beside_the_cookie_changes_nothing(lab: Lab) -> None:
    visitor, two = await lab.begin(), forged("u" * 43, place="header")
    two.headers.append(("X-Sid", "v" * 43))
    for view in (forged("u" * 43, place="header"), forged("u" * 43, place="query"), forged("?", place="header"), two):
        lab.forget()
        assert (await serve(lab.store, view, read)).error is None
        assert refused(await serve(lab.store, view, write))
        view.cookies = [f"{NAME}={visitor.sid}".encode()]
        assert refused(await serve(lab.store, view, read))
        assert {"unknown", "malformed", "ambiguous", "cross_site"} >= {*lab.kinds()} >= {"cross_site"}


async def test_a_failing_storage_is_still_an_outage(lab: Lab) -> None:
    lab.storage.fail("load")
    for origin in (EVIL, PAY):
        reply = await serve(lab.store, forged("u" * 43, place="header", origin=origin), read)
        assert isinstance(reply.error, StorageUnavailable)


async def test_a_store_without_cookies_only_keeps_new_ids_from_urls() -> None:
    lab = Lab(extractor=chain(from_header("X-Sid"), from_query("sid")))
    assert (await serve(lab.store, forged(), login)).all("x-sid") != []
    assert lab.kinds() == ["created"]
    sid = (await lab.store.create({"n": 1})).id
    assert refused(await serve(lab.store, forged(sid, place="query"), login))
    assert not refused(await serve(lab.store, forged(sid, place="header"), login))


async def test_an_extractor_of_ones_own_that_reads_a_cookie_is_a_cookie() -> None:
    def extract(view: Any) -> str | None:
        return next((line.decode().partition("=")[2] for line in view.cookie_headers()), None)

    for source, vary in ((Source.COOKIE, ()), (Source.OTHER, ("Cookie",))):
        lab = Lab(extractor=Extractor(extract, source, NAME, (), vary))
        sid = (await lab.store.create({"n": 1})).id
        assert (await serve(lab.store, forged(sid, site="same-origin"), read)).error is None
        reply = await serve(lab.store, forged(sid), write)
        assert refused(reply) == (source is Source.COOKIE)
        assert await lab.data(sid) == {"n": 1}
