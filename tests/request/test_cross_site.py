"""What requests of other sites may do with a session (promise P8), by the place of its ID, the use and the setting."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.kit import Lab, Reply, Work, destroy, login, mutate, read, regenerate, reset, serve, write
from tests.stores import AlternatingStorage, SpyStorage, SuspendingStorage
from tests.views import PlainView, response_to

from sessioncore import (
    CrossSiteRequest,
    Extractor,
    MemoryStorage,
    RequestView,
    Session,
    SessionConfig,
    SessionError,
    SessionKey,
    SessionStore,
    Source,
    StorageUnavailable,
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_query,
)

pytestmark = pytest.mark.anyio

NAME = "__Host-session_id"
EVIL, PAY = "https://attacker.example", "https://pay.example"
PLACES = chain(from_cookie(), from_header("X-Sid"), from_auth_header(), from_query("sid"), from_form("sid"))


def forged(sid: str | None = None, *, place: str = "cookie", origin: str = EVIL, site: str = "cross-site") -> PlainView:
    """A POST that a page of another site sends, with an ID in one place."""
    view = PlainView(headers=[("Host", "shop.example"), ("Sec-Fetch-Site", site), ("Origin", origin)], method="POST")
    if sid is not None:
        match place:
            case "cookie":
                view.cookies = [f"{NAME}={sid}".encode()]
            case "header":
                view.headers = [*view.headers, ("X-Sid", sid)]
            case "authorization":
                view.headers = [*view.headers, ("Authorization", f"Bearer {sid}")]
            case "query":
                view.queries = {"sid": sid}
            case _:
                view.fields = {"sid": sid}
    return view


async def set_idle(session: Session) -> None:
    session.set_idle_timeout(None)


async def bind(session: Session) -> None:
    session.bind_owner("ada")


async def save(session: Session) -> None:
    await session.save()


async def nothing(_: Session) -> None:
    pass


CART = SessionKey("cart", list[int], default_factory=list)


async def change_default(session: Session) -> None:
    session[CART].append(1)


READS: list[Work] = [read, save]
WRITES: list[Work] = [write, mutate, bind, set_idle, login, regenerate, reset, destroy, change_default]


@pytest.fixture(params=[SpyStorage, SuspendingStorage, AlternatingStorage])
def lab(request: pytest.FixtureRequest) -> Lab:
    return Lab(kind=request.param, extractor=PLACES, trusted_origins=[PAY])


def refused(reply: Reply) -> bool:
    return isinstance(reply.error, CrossSiteRequest)


# -- the ID came in a cookie, or there is none


@pytest.mark.parametrize("work", [*READS, *WRITES])
async def test_a_session_in_a_cookie_cannot_be_used_and_the_storage_is_not_asked(lab: Lab, work: Work) -> None:
    visitor = await lab.begin(n=1)
    reply = await serve(lab.store, forged(visitor.sid), work)
    assert refused(reply)
    assert (reply.all("set-cookie"), reply.all("x-sid"), lab.calls) == ([], [], [])
    assert [(event.kind.value, event.handle, event.detail) for event in lab.events] == [
        ("cross_site", None, f"POST from {EVIL}")
    ]
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


@pytest.mark.parametrize("work", WRITES)
async def test_without_a_cookie_the_first_write_or_verb_is_refused_and_reported_once(lab: Lab, work: Work) -> None:
    async def twice(session: Session) -> None:
        assert (session.get("n"), session.fresh, session.empty) == (None, True, True)
        if work is not change_default:  # which is noticed at the commit
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
    await anonymous.finish()
    assert anonymous.session.get("n") is None
    with pytest.raises(CrossSiteRequest):
        await write(anonymous.session)


async def test_the_answer_is_403_even_if_the_framework_hides_the_error_and_on_error_may_replace_it(lab: Lab) -> None:
    visitor = await lab.begin()
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

    def hide(view: RequestView, error: SessionError) -> tuple[int, str]:
        return 404, f"{view.method} {type(error).__name__}"

    own = lab.beside(on_error=hide)
    exchange = own.exchange(forged(visitor.sid))
    await exchange.load()
    with pytest.raises(CrossSiteRequest) as caught:
        await read(exchange.session)
    assert response_to(exchange, caught.value).status == 404


# -- the ID came otherwise


@pytest.mark.parametrize("place", ["header", "authorization"])
@pytest.mark.parametrize("cookie_too", [False, True])
async def test_a_session_from_a_header_is_used_freely_and_no_cookie_is_written(
    lab: Lab, place: str, cookie_too: bool
) -> None:
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
        ids = [""] if place == "header" else []  # a bearer token is in no place that a response could clear
        assert (reply.error, reply.all("set-cookie"), reply.all("x-sid"), await lab.data(sid)) == (None, [], ids, None)
    assert await lab.data(other) == {"n": 5}
    assert "cross_site" not in lab.kinds()


@pytest.mark.parametrize("place", ["query", "form"])
async def test_what_would_mint_an_id_for_a_session_from_a_url_or_form_is_refused(lab: Lab, place: str) -> None:
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
    visitor = await lab.begin()
    for view in (forged("u" * 43, place="header"), forged("u" * 43, place="query"), forged("?", place="header")):
        lab.forget()
        assert (await serve(lab.store, view, read)).error is None
        assert refused(await serve(lab.store, view, write))
        view.cookies = [f"{NAME}={visitor.sid}".encode()]
        assert refused(await serve(lab.store, view, read))
        assert {"unknown", "malformed", "cross_site"} >= {*lab.kinds()} >= {"cross_site"}


async def test_a_failing_storage_is_still_an_outage(lab: Lab) -> None:
    lab.storage.fail("load")
    assert isinstance((await serve(lab.store, forged("u" * 43, place="header"), read)).error, StorageUnavailable)


async def test_a_store_without_cookies_only_keeps_new_ids_from_urls() -> None:
    lab = Lab(extractor=chain(from_header("X-Sid"), from_query("sid")))
    assert (await serve(lab.store, forged(), login)).all("x-sid") != []
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


# -- a trusted site


async def write_and_login(session: Session) -> None:
    session["n"] = 1
    await session.save()  # stores nothing, and keeps it for the login
    await session.login("ada")


async def write_and_save(session: Session) -> None:
    session["n"] = 1
    await session.save()
    assert session.get("n") == 1
    session["m"] = 2


@pytest.mark.parametrize("work", [write, mutate, bind, set_idle, regenerate, write_and_save, change_default])
async def test_what_a_trusted_site_writes_without_the_cookie_is_dropped_with_one_event(lab: Lab, work: Work) -> None:
    reply = await serve(lab.store, forged(origin=PAY), work)
    assert (reply.error, reply.all("set-cookie"), reply.all("x-sid")) == (None, [], [])
    assert (lab.calls, [event.detail for event in lab.events]) == ([], [f"POST from {PAY}"])


@pytest.mark.parametrize("work", [nothing, read, save, reset, destroy])
async def test_a_trusted_site_may_read_that_there_is_no_session(lab: Lab, work: Work) -> None:
    reply = await serve(lab.store, forged(origin=PAY), work)
    assert (reply.error, reply.all("set-cookie"), lab.calls, lab.events) == (None, [], [], [])


@pytest.mark.parametrize("end", [reset, destroy])
async def test_a_write_after_the_end_is_dropped_too(lab: Lab, end: Work) -> None:
    async def work(session: Session) -> None:
        assert session.id
        await end(session)
        await write(session)

    reply = await serve(lab.store, forged(origin=PAY), work)
    assert (reply.error, reply.all("set-cookie"), lab.calls, lab.kinds()) == (None, [], [], ["cross_site"])


@pytest.mark.parametrize("work", [login, write_and_login])
async def test_a_login_from_a_trusted_site_keeps_all_that_the_request_wrote(lab: Lab, work: Work) -> None:
    reply = await serve(lab.store, forged(origin=PAY), work)
    stored = await lab.data(reply.cookies[NAME])
    assert stored == ({"n": 1} if work is write_and_login else {})
    assert (lab.kinds(), lab.calls) == (["created"], ["create"])


async def test_a_trusted_site_whose_cookie_came_and_one_of_the_same_site_are_like_the_own(lab: Lab) -> None:
    visitor = await lab.begin(n=1)
    assert (await serve(lab.store, forged(visitor.sid, origin=PAY), write)).error is None
    assert await lab.data() == {"n": 2}
    reply = await serve(lab.store, forged(origin=PAY, site="same-site"), write)
    assert reply.cookies.keys() == {NAME}
    header = await serve(lab.store, forged(visitor.sid, origin=PAY, place="header"), login)
    assert header.cookies.keys() == {NAME}


async def test_with_samesite_none_a_trusted_site_begins_a_session() -> None:
    lab = Lab(trusted_origins=[PAY], cookie_same_site="none")
    assert (await serve(lab.store, forged(origin=PAY), write)).cookies.keys() == {NAME}


async def test_a_payment_page_does_not_take_the_login_away(lab: Lab) -> None:
    """The whole story: a login, the provider's POST without the cookie, and the next click of the visitor."""
    async with lab.visitor.request() as session:
        await session.login("ada")
    before = lab.visitor.sid
    reply = await serve(lab.store, forged(origin=PAY), write)
    assert reply.headers == [("vary", "Cookie, X-Sid, Authorization")]
    async with lab.visitor.request() as session:
        assert (session.owner, lab.visitor.sid) == ("ada", before)


# -- the setting


def bare(_: str) -> PlainView:
    return forged()


def by_header(sid: str) -> PlainView:
    return forged(sid, place="header")


def from_pay(_: str) -> PlainView:
    return forged(origin=PAY)


@pytest.mark.parametrize(
    ("view", "work", "events"),
    [
        (forged, read, 1),
        (forged, write, 1),
        (forged, nothing, 0),
        (bare, read, 0),
        (bare, write, 1),
        (bare, login, 1),
        (bare, destroy, 1),
        (by_header, write, 0),
        (from_pay, login, 0),
    ],
)
async def test_report_refuses_nothing_and_sends_the_event_alone(
    view: Callable[[str], PlainView], work: Work, events: int, caplog: pytest.LogCaptureFixture
) -> None:
    config: dict[str, Any] = {"extractor": PLACES, "trusted_origins": [PAY]}
    reporting, allowing = (Lab(cross_site=setting, **config) for setting in ("report", "allow"))
    replies: list[list[str]] = []
    for lab in (reporting, allowing):
        sid = (await lab.store.create({"n": 1})).id
        reply = await serve(lab.store, view(sid), work)
        assert reply.error is None
        replies.append([name for name, _ in reply.headers])
        assert await lab.data(sid) == ({"n": 2} if "write" in work.__name__ and view(sid) != forged() else {"n": 1})
    assert replies[0] == replies[1]
    assert [lab.kinds().count("cross_site") for lab in (reporting, allowing)] == [events, 0]
    assert caplog.records == []


async def test_skip_comes_first(lab: Lab) -> None:
    def post(view: RequestView) -> bool:
        return view.method == "POST"

    store = lab.beside(skip=post)
    with pytest.raises(SessionError, match="skipped"):
        exchange = store.exchange(forged())
        await exchange.load(required=True)
    assert lab.events == []


async def test_the_store_pattern_refuses_as_well(lab: Lab) -> None:
    visitor = await lab.begin()
    with pytest.raises(CrossSiteRequest):
        await lab.store.get(forged(visitor.sid))


# -- the log


async def test_each_refused_origin_is_one_warning_and_eight_at_most(caplog: pytest.LogCaptureFixture) -> None:
    store = SessionStore(SessionConfig(storage=MemoryStorage()))
    with caplog.at_level(logging.WARNING, "sessioncore"):
        for number in range(20):
            for _ in range(3):
                await serve(store, forged("u" * 43, origin=f"https://n{number}.example"), read)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 8
    assert all("trusted_origins" in text and f"https://n{number}.example" in text for number, text in enumerate(texts))
    assert ["not logged" in text for text in texts] == [False] * 7 + [True]
    assert "Host" not in texts[0]


async def test_a_difference_between_origin_and_host_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    """A proxy that rewrites Host makes the own site look like another one, where there is no Sec-Fetch-Site."""
    view = PlainView([f"{NAME}=u".encode()], [("Host", "localhost:8000"), ("Origin", "https://shop.example")], {}, {})
    view.method = "POST"
    assert refused(await serve(SessionStore(), view, read))
    assert "make it pass Host on" in caplog.text


async def test_what_is_logged_and_sent_as_an_event_is_short_and_printable(caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab()
    view = forged("u" * 43, origin="https://x.example/\x1b[31m\n" + "é" * 5000)
    view.method = "PO\x07ST" + "X" * 500
    assert refused(await serve(lab.store, view, read))
    [event] = lab.events
    for text in (event.detail, caplog.messages[0].split("from ", 1)[1][:100]):
        assert len(text) <= 100
        assert text.isprintable()
        assert text.isascii()
