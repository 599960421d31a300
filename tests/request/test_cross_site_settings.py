"""What `trusted_origins` and `cross_site` change for requests of other sites, and what is logged."""

import logging
from collections.abc import Callable

import pytest
from tests.cross_site_requests import NAME, PAY, PLACES, bind, change_default, forged, nothing, refused, save, set_idle
from tests.kit import Lab, Work, destroy, login, mutate, read, regenerate, reset, serve, write
from tests.stores import AlternatingStorage, SpyStorage, SuspendingStorage
from tests.views import PlainView

from sessioncore import CrossSiteRequest, OwnerLimitReached, RequestView, Session, SessionError, SessionStore
from sessioncore.http._ids import handle_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[SpyStorage, SuspendingStorage, AlternatingStorage])
def lab(request: pytest.FixtureRequest) -> Lab:
    return Lab(kind=request.param, extractor=PLACES, trusted_origins=[PAY])


async def write_and_login(session: Session) -> None:
    session["n"] = 1
    await session.save()  # stores nothing, and keeps it for the login
    await session.reload()
    await session.login("ada")


async def write_and_save(session: Session) -> None:
    session["n"] = 1
    await session.save()
    assert session.get("n") == 1
    session["m"] = 2


@pytest.mark.proves("P8")
@pytest.mark.parametrize("work", [write, mutate, bind, set_idle, regenerate, write_and_save, change_default])
async def test_what_a_trusted_site_writes_without_the_cookie_is_dropped_with_one_event(lab: Lab, work: Work) -> None:
    reply = await serve(lab.store, forged(origin=PAY), work)
    assert (reply.error, reply.all("set-cookie"), reply.all("x-sid")) == (None, [], [])
    assert (lab.calls, [event.detail for event in lab.events]) == ([], [f"POST from {PAY}"])
    await lab.storage.inner.create(f"session:{handle_of('d' * 43)}", b"damaged", 60)
    reply = await serve(lab.store, forged("d" * 43, origin=PAY, place="query"), work)
    assert (reply.error, reply.all("set-cookie"), reply.all("x-sid")) == (None, [], [])


async def test_a_payment_page_does_not_take_the_login_away(lab: Lab) -> None:
    """A login, the provider's POST without the cookie, and the next click of the visitor."""
    async with lab.visitor.request() as session:
        await session.login("ada")
    before = lab.visitor.sid
    reply = await serve(lab.store, forged(origin=PAY), write)
    assert reply.headers == [("vary", "Cookie, X-Sid, Authorization")]
    exchange = lab.store.exchange(forged(origin=PAY))
    await exchange.load()
    await write(exchange.session)
    await exchange.commit(200)
    assert exchange.error_response(RuntimeError("of the stream")) is None  # the write was dropped, and nothing refused
    async with lab.visitor.request() as session:
        assert (session.owner, lab.visitor.sid) == ("ada", before)


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


async def test_a_trusted_site_with_which_the_cookie_came_and_one_of_the_same_site_may_write(lab: Lab) -> None:
    visitor = await lab.begin(n=1)
    assert (await serve(lab.store, forged(visitor.sid, origin=PAY), write)).error is None
    assert await lab.data() == {"n": 2}
    reply = await serve(lab.store, forged(origin=PAY, site="same-site"), write)
    assert reply.cookies.keys() == {NAME}
    assert (await serve(lab.store, forged("u" * 43, origin=PAY), write)).cookies.keys() == {NAME}
    header = await serve(lab.store, forged(visitor.sid, origin=PAY, place="header"), login)
    assert header.cookies.keys() == {NAME}


async def test_with_samesite_none_a_trusted_site_begins_a_session() -> None:
    lab = Lab(trusted_origins=[PAY], cookie_same_site="none")
    assert (await serve(lab.store, forged(origin=PAY), write)).cookies.keys() == {NAME}


VIEWS: dict[str, Callable[[str], PlainView]] = {
    "cookie": forged, "no cookie": lambda _: forged(), "header": lambda sid: forged(sid, place="header"),
    "trusted": lambda _: forged(origin=PAY), "query": lambda sid: forged(sid, place="query"),
    "trusted header": lambda sid: forged(sid, place="header", origin=PAY),
}  # fmt: skip


async def change_and_fail(session: Session) -> None:
    session["n"] = 5
    raise OwnerLimitReached("a failure that is not logged")


REPORTED: list[tuple[str, Work, int]] = [
    ("cookie", read, 1), ("cookie", write, 1), ("cookie", nothing, 0), ("no cookie", read, 0), ("no cookie", write, 1),
    ("no cookie", login, 1), ("no cookie", destroy, 1), ("header", write, 0), ("trusted", login, 0),
    ("query", read, 0), ("query", write, 0), ("query", login, 1), ("query", destroy, 0), ("no cookie", nothing, 0),
    ("no cookie", change_and_fail, 1), ("trusted", change_and_fail, 1), ("trusted header", change_and_fail, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "work", "events"), REPORTED)
async def test_report_refuses_nothing_and_sends_the_event_alone(
    name: str, work: Work, events: int, caplog: pytest.LogCaptureFixture
) -> None:
    labs = [Lab(cross_site=setting, extractor=PLACES, trusted_origins=[PAY]) for setting in ("report", "allow")]
    replies: list[list[str]] = []
    for lab in labs:
        sid = (await lab.store.create({"n": 1})).id
        view = VIEWS[name](sid)
        reply = await serve(lab.store, view, work)
        assert (reply.error is None) == (work is not change_and_fail)
        replies.append([name for name, _ in reply.headers])
        n = 2 if "write" in work.__name__ and view != forged() else 1
        assert await lab.data(sid) == (None if name == "query" and work in (login, destroy) else {"n": n})
    assert replies[0] == replies[1]
    assert [lab.kinds().count("cross_site") for lab in labs] == [events, 0]
    assert caplog.records == []


async def test_a_skipped_request_is_not_judged(lab: Lab) -> None:
    def post(view: RequestView) -> bool:
        return view.method == "POST"

    store = lab.beside(skip=post)
    with pytest.raises(SessionError, match="skipped"):
        await store.exchange(forged()).load(required=True)
    assert lab.events == []


async def test_the_store_pattern_refuses_as_well(lab: Lab) -> None:
    visitor = await lab.begin()
    with pytest.raises(CrossSiteRequest):
        await lab.store.get(forged(visitor.sid))


async def test_each_refused_origin_is_one_warning_and_eight_at_most(caplog: pytest.LogCaptureFixture) -> None:
    store = SessionStore()
    with caplog.at_level(logging.WARNING, "sessioncore"):
        for number in range(20):
            for _ in range(3):
                await serve(store, forged("u" * 43, origin=f"https://n{number}.example"), read)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 8
    assert all("trusted_origins" in text and f"https://n{number}.example" in text for number, text in enumerate(texts))
    assert ["not logged" in text for text in texts] == [False] * 7 + [True]
    assert "Host" not in texts[0]


async def test_no_warning_advises_to_trust_the_origin_null_and_a_rewritten_host_is_explained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await serve(SessionStore(), forged("u" * 43, origin="null"), read)
    assert "trusted_origins" not in caplog.text
    assert "pass Host on" not in caplog.text
    assert "no-referrer" in caplog.text
    # Without Sec-Fetch-Site, a proxy that rewrites Host makes the site's own requests look like another site's.
    view = PlainView([f"{NAME}=u".encode()], [("Host", "localhost:8000"), ("Origin", "https://shop.example")], {}, {})
    view.method = "POST"
    assert refused(await serve(SessionStore(), view, read))
    assert "make it pass Host on" in caplog.text


async def test_what_is_logged_and_sent_as_an_event_is_short_and_printable(caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab()
    nameless = forged("u" * 43)
    nameless.headers = nameless.headers[:2]
    assert refused(await serve(lab.store, nameless, read))
    assert lab.events.pop().detail == "POST without an Origin"
    view = forged("u" * 43, origin="https://x.example/\x1b[31m\n" + "é" * 5000)
    view.method = "PO\x07ST" + "X" * 500
    assert refused(await serve(lab.store, view, read))
    [event] = lab.events
    for text in (event.detail, caplog.messages[-1].split("from ", 1)[1][:100]):
        assert len(text) <= 100
        assert text.isprintable()
        assert text.isascii()
