"""Where an ID may be in a request, which of several counts, and where a new one is sent."""

from collections.abc import Callable
from typing import Any

import anyio.lowlevel
import pytest
from tests.kit import Lab, doing, login, read, regenerate, reset, serve, write
from tests.stores import SuspendingStorage
from tests.views import PlainView

from sessioncore import (
    ConfigError,
    Extractor,
    RequestView,
    Session,
    Source,
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_param,
    from_query,
)

pytestmark = pytest.mark.anyio

UNKNOWN = "u" * 43


def cookie(sid: str, name: str = "sid") -> PlainView:
    return PlainView([f"{name}={sid}".encode()])


async def save(session: Session) -> None:
    session["n"] = 5
    await session.save()


in_place = doing(lambda session: session.setdefault("items", []).append(1))


class Place(Lab):
    """A lab whose store reads one place, with a live session in it."""

    def __init__(self, extractor: Extractor, **config: Any) -> None:
        super().__init__(kind=SuspendingStorage, extractor=extractor, **config)

    async def make(self, **data: Any) -> str:
        sid = (await self.store.create(data or {"n": 1})).id
        self.forget()
        return sid

    async def finds(self, view: PlainView) -> dict[str, Any]:
        """What a request that only reads finds; its response has no header but Vary."""
        seen: dict[str, Any] = {}

        async def look(session: Session) -> None:
            seen.update(session)

        reply = await serve(self.store, view, look)
        assert [name for name, _ in reply.headers if name != "vary"] == []
        return seen


@pytest.mark.proves("AT-21")
async def test_a_stale_cookie_does_not_hide_a_valid_header_and_the_first_live_id_wins() -> None:
    place = Place(chain(from_cookie("sid"), from_header("X-Sid")))
    first, second = await place.make(a=1), await place.make(b=2)
    for stale in (UNKNOWN, "short", ""):
        assert await place.finds(PlainView([f"sid={stale}".encode()], [("X-Sid", first)])) == {"a": 1}
    assert await place.finds(PlainView([b"sid=short"], [("X-Sid", UNKNOWN)])) == {}
    assert place.kinds() == ["unknown", "malformed", "malformed", "malformed", "unknown"]
    assert await place.finds(PlainView([f"sid={first}".encode()], [("X-Sid", second)])) == {"a": 1}
    assert await place.finds(PlainView([f"sid={second}".encode()], [("X-Sid", first)])) == {"b": 2}


@pytest.mark.proves("AT-15", "AT-16")
@pytest.mark.parametrize("second", ["short", "", UNKNOWN])
async def test_two_values_of_the_cookie_are_no_session_even_if_another_place_has_one(second: str) -> None:
    place = Place(chain(from_cookie("sid"), from_header("X-Sid")))
    sid = await place.make()
    for cookies in ([f"sid={sid}; sid={second}"], [f"sid={second}", f"sid={sid}"]):
        assert await place.finds(PlainView([one.encode() for one in cookies], [("X-Sid", sid)])) == {}
    assert await place.finds(PlainView(headers=[("X-Sid", sid), ("X-Sid", UNKNOWN)])) == {}
    assert (place.kinds(), place.calls) == (["ambiguous"] * 3, [])
    assert sid not in repr(place.events)
    assert await place.finds(PlainView([f"sid={sid}; sid={sid}".encode()] * 2)) == {"n": 1}


READ_ONLY: list[tuple[Extractor, Callable[[str], PlainView]]] = [
    (from_query("sid"), lambda sid: PlainView(queries={"sid": sid})),
    (from_form("sid"), lambda sid: PlainView(fields={"sid": sid})),
    (from_param("sid"), lambda sid: PlainView(params={"sid": sid})),
    (from_param("sid", path="/s/{sid}"), lambda sid: PlainView(path=f"/s/{sid}")),
    (Extractor(lambda view: view.query("sid"), Source.OTHER, "own"), lambda sid: PlainView(queries={"sid": sid})),
    (from_auth_header(), lambda sid: PlainView(headers=[("Authorization", f"Bearer {sid}")])),
]


@pytest.mark.proves("P1", "AT-20")
@pytest.mark.parametrize(("where", "view"), READ_ONLY)
async def test_an_id_from_a_read_only_place_is_never_written_to_a_cookie_but_a_new_one_is(
    where: Extractor, view: Callable[[str], PlainView]
) -> None:
    place = Place(chain(from_cookie("cookie"), where))
    sid = await place.make()
    for work in (read, write, in_place, save):
        assert (await serve(place.store, view(sid), work)).cookies == {}
    for work in (regenerate, login):
        new = (await serve(place.store, view(sid), work)).cookies["cookie"]
        assert new != sid
        assert await place.data(new) == {"n": 5, "items": [1]}
        sid = new
    ending = view(sid)
    ending.cookies = [f"cookie={UNKNOWN}".encode()]
    assert (await serve(place.store, ending, reset)).cookies == {}  # the cookie is of another session: not cleared
    assert len(place.storage.inner) == 0
    for cookies, cleared in ((ending.cookies, {"cookie": ""}), ([], {})):
        dead = view(UNKNOWN)
        dead.cookies = cookies
        assert (await serve(place.store, dead, reset)).cookies == cleared
    alone = Place(where)
    sid = await alone.make()
    for work in (read, write, login):
        reply = await serve(alone.store, view(sid), work)
        assert [name for name, _ in reply.headers if name != "vary"] == []
    assert alone.kinds() == ["login"]


async def test_without_a_deadline_only_a_cookie_that_brought_the_id_is_sent_again() -> None:
    place = Place(chain(from_cookie("sid"), from_query("sid")), absolute_timeout=None)
    sid = await place.make()
    place.clock.advance(120)
    assert (await serve(place.store, PlainView(queries={"sid": sid}), read)).cookies == {}
    place.clock.advance(120)
    assert (await serve(place.store, cookie(sid), read)).cookies == {"sid": sid}


async def test_a_custom_extractor_may_wait_and_may_be_anywhere_in_a_chain() -> None:
    async def extract(view: RequestView) -> str | None:
        await anyio.lowlevel.checkpoint()
        found: Any = from_cookie("own").extract(view)
        return found or view.query("sid")

    own = Extractor(extract, Source.HEADER, "X-Own", vary=("X-Own",))
    place = Place(chain(own, from_cookie("sid"), from_header("x-own")))
    sid = await place.make()
    await serve(place.store, PlainView(queries={"sid": sid}), write)
    reply = await serve(place.store, cookie(sid), write)
    assert reply.headers == [("vary", "x-own, Cookie")]
    assert await place.data(sid) == {"n": 3}
    reply = await serve(place.store, PlainView([f"sid={sid}".encode()], queries={"sid": UNKNOWN}), login)
    assert reply.all("x-own") == [reply.cookies["sid"]]
    place.forget()
    assert await place.finds(PlainView([f"own=a; own=b; sid={sid}".encode()])) == {}
    assert (place.kinds(), place.calls) == (["ambiguous"], [])


async def test_an_error_of_a_custom_extractor_is_the_applications_and_a_wrong_value_is_named() -> None:
    def fail(view: RequestView) -> str | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve(Place(Extractor(fail, Source.OTHER, "own")).store, PlainView(), read)
    wrong: list[Any] = [b"a" * 43, 5, ["a" * 43]]
    for given in wrong:

        def now(_: RequestView, given: Any = given) -> Any:
            return given

        async def late(_: RequestView, given: Any = given) -> Any:
            return given

        for extractor in (Extractor(now, Source.OTHER, "mine"), Extractor(late, Source.OTHER, "mine")):
            text = f"the extractor of 'mine' must return str or None, not {type(given).__name__}"
            with pytest.raises(ConfigError, match=text):
                await Place(extractor).store.exchange(PlainView()).load()
    texts: list[Any] = [["__Host-session_id=a"], [("cookie", b"a")], "__Host-session_id=a"]
    for given in texts:
        with pytest.raises(ConfigError, match=r"PlainView\.cookie_headers must return a sequence of bytes"):
            await Lab().store.exchange(PlainView(given)).load()


async def test_a_generator_that_makes_no_id_is_a_configuration_error_and_nothing_is_stored() -> None:
    lab = Lab(id_generator=lambda: "a b" * 20)
    error = (await serve(lab.store, PlainView(), write)).error
    assert isinstance(error, ConfigError)
    assert "id_generator" in str(error)
    assert lab.calls == []
