"""Where an ID may stand in a request: each place reads exactly its own, and says where answers go."""

import inspect
from typing import Any

import anyio
import pytest
from tests.stores import SpyStorage
from tests.views import PlainView

from sessioncore import (
    ConfigError,
    Extractor,
    MemoryStorage,
    SessionConfig,
    SessionEvent,
    SessionStore,
    Source,
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_lookup,
    from_param,
    from_query,
)
from sessioncore.http._cookies import AmbiguousID
from sessioncore.http._extractors import flatten, vary_names

T = "T" * 43
U = "U" * 43


async def extract(extractor: Extractor, view: PlainView) -> str | None:
    found = extractor.extract(view)
    return await found if inspect.isawaitable(found) else found


def read(extractor: Extractor, view: PlainView) -> str | None:
    return anyio.run(extract, extractor, view)


EVERYWHERE = PlainView(
    cookies=[b"sid=in-cookie"],
    headers=[("sid", "in-header"), ("Authorization", "Bearer in-auth")],
    queries={"sid": "in-query"},
    params={"sid": "in-path"},
    fields={"sid": "in-form"},
)


@pytest.mark.parametrize(
    ("extractor", "source", "key", "found"),
    [
        (from_cookie("sid"), Source.COOKIE, "sid", "in-cookie"),
        (from_header("sid"), Source.HEADER, "sid", "in-header"),
        (from_auth_header(), Source.OTHER, "Authorization", "in-auth"),
        (from_query("sid"), Source.OTHER, "sid", "in-query"),
        (from_form("sid"), Source.OTHER, "sid", "in-form"),
        (from_param("sid"), Source.OTHER, "sid", "in-path"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_each_place_reads_its_own_and_nothing_else(extractor: Extractor, source: Source, key: str, found: str) -> None:
    assert (extractor.source, extractor.key) == (source, key)
    assert read(extractor, EVERYWHERE) == found
    assert read(extractor, PlainView()) is None


def test_the_default_place_is_a_host_cookie() -> None:
    assert (from_cookie().source, from_cookie().key) == (Source.COOKIE, "__Host-session_id")


def test_different_values_in_one_place_are_ambiguous_and_equal_ones_are_not() -> None:
    for view in (PlainView(cookies=[b"sid=a; sid=b"]), PlainView(headers=[("sid", "a"), ("SID", "b")])):
        with pytest.raises(AmbiguousID):
            read(chain(from_cookie("sid"), from_header("sid")), view)
    assert read(from_header("sid"), PlainView(headers=[("sid", "a"), ("Sid", "a")])) == "a"


# -- Authorization


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([f"Bearer {T}"], T), ([f"bearer {T}"], T), ([f"BEARER   {T}"], T),
        (["Bearer a.b-c_d~e+f/g=="], "a.b-c_d~e+f/g=="),
        (["Bearer"], None), (["Bearer "], None), (["Bearer =="], None), ([f"Bearer{T}"], None), ([T], None),
        ([""], None),
        ([f"Bearer {T}, Bearer {U}"], None), ([f"Bearer {T} {U}"], None), ([f"Bearer {T}\tx"], None),
        ([f"Bearer\t{T}"], None), ([f" Bearer {T}"], None), ([f"Bearer {T} "], None), ([f"Bearer a=b{T}"], None),
        ([f"Bearer {T}\u00e9"], None), ([f"Bearer {T}\u0661"], None), ([f"Basic {T}"], None), ([f'Bearer "{T}"'], None),
        ([f"Bearer {T}", f"Bearer {T}"], None), ([f"Bearer {T}", "Basic x"], None),
    ],
)  # fmt: skip
def test_only_one_authorization_header_with_one_token68_counts(values: list[str], found: str | None) -> None:
    assert read(from_auth_header(), PlainView(headers=[("authorization", value) for value in values])) == found


def test_another_scheme_is_matched_without_case() -> None:
    view = PlainView(headers=[("Authorization", f"session {T}")])
    assert read(from_auth_header("Session"), view) == T
    assert read(from_auth_header("Bearer"), view) is None


# -- path parameters


@pytest.mark.parametrize(
    ("route", "path", "found"),
    [
        ("/share/{id}", f"/share/{T}", T),
        ("/share/{id}", "/share/", None),
        ("/share/{id}", f"/share/{T}/", None),
        ("/share/{id}", f"/share/{T}/more", None),
        ("/share/{id}", f"/x/share/{T}", None),
        ("/{lang}/share/{id}/view", f"/en/share/{T}/view", T),
        ("/{lang}/share/{id}", f"/a/b/share/{T}", None),
        ("/{id}/{id}", f"/{T}/{U}", T),
        ("/a.b/{id}", f"/axb/{T}", None),
        ("/a.b/{id}", f"/a.b/{T}", T),
        ("/f({id})", f"/f({T})", T),
    ],
)
def test_a_path_parameter_is_one_segment_of_the_route(route: str, path: str, found: str | None) -> None:
    assert read(from_param("id", path=route), PlainView(path=path)) == found


# -- chains


def test_a_chain_gives_the_first_id_and_passes_over_emptied_places() -> None:
    tried = chain(from_cookie("sid"), from_form("sid"), from_query("sid"))
    assert read(tried, EVERYWHERE) == "in-cookie"
    assert read(tried, PlainView(cookies=[b"sid="], fields={"sid": "f"}, queries={"sid": "q"})) == "f"
    assert read(tried, PlainView(queries={"sid": "q"})) == "q"
    assert read(tried, PlainView()) is None


def test_places_come_out_of_any_nesting_in_order() -> None:
    a, b, c, d = from_cookie("a"), from_header("b"), from_query("c"), from_form("d")
    assert list(flatten(chain(a, chain(b, chain(c)), d))) == [a, b, c, d]
    assert list(flatten(a)) == [a]


def test_what_a_chain_reads_is_what_a_cache_must_know() -> None:
    tried = chain(from_cookie("a"), chain(from_header("X-Sid"), from_cookie("b")), from_auth_header(), from_query("q"))
    assert vary_names(tried) == ("Cookie", "X-Sid", "Authorization")


@pytest.mark.parametrize(
    ("extractor", "names"),
    [
        (Extractor(lambda _: None, Source.COOKIE, "sid"), ("Cookie",)),
        (Extractor(lambda _: None, Source.HEADER, "X-Sid"), ("X-Sid",)),
        (Extractor(lambda _: None, Source.OTHER, "x"), ()),
        (Extractor(lambda _: None, Source.OTHER, "x", vary=("X-Token",)), ("X-Token",)),
    ],
)
def test_a_custom_extractor_varies_by_what_it_reads(extractor: Extractor, names: tuple[str, ...]) -> None:
    assert vary_names(extractor) == names


# -- lookups and refusals


def test_a_fiber_lookup_gives_the_same_places() -> None:
    single = from_lookup("cookie:sid")
    assert (single.source, single.key, single.parts) == (Source.COOKIE, "sid", ())
    many = from_lookup("cookie:sid, header:X-Sid,query:q,form:f,param:p")
    assert [(place.source, place.key) for place in flatten(many)] == [
        (Source.COOKIE, "sid"), (Source.HEADER, "X-Sid"), (Source.OTHER, "q"), (Source.OTHER, "f"), (Source.OTHER, "p"),
    ]  # fmt: skip


@pytest.mark.parametrize("lookup", ["", "cookie", "cookie:", ":sid", "cookies:sid", "cookie:a,", "cookie:a b", None, 5])
def test_a_lookup_that_says_nothing_is_refused(lookup: Any) -> None:
    with pytest.raises(ConfigError):
        from_lookup(lookup)


@pytest.mark.parametrize("make", [from_cookie, from_header, from_auth_header])
@pytest.mark.parametrize("name", ["", "a b", "a\r\nb", "a:b", "a;b", "é", "a,b", None, 5, b"sid"])
def test_a_name_that_cannot_stand_in_a_header_is_refused(make: Any, name: Any) -> None:
    with pytest.raises(ConfigError):
        make(name)


@pytest.mark.parametrize("make", [from_query, from_form, from_param])
@pytest.mark.parametrize("name", ["", None, 5])
def test_an_empty_field_name_is_refused(make: Any, name: Any) -> None:
    with pytest.raises(ConfigError):
        make(name)


def test_a_route_without_the_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\{id\} in the path"):
        from_param("id", path="/share/{other}")


@pytest.mark.parametrize("parts", [(), ("cookie:sid",), (from_cookie("sid"), None), ([from_cookie("sid")],)])
def test_a_chain_of_anything_but_extractors_is_refused(parts: Any) -> None:
    with pytest.raises(ConfigError):
        chain(*parts)


# -- through a store


class Site:
    """A store that tells what happened, with one live session in it."""

    def __init__(self, extractor: Extractor) -> None:
        self.events: list[SessionEvent] = []
        self.spy = SpyStorage()
        self.store = SessionStore(
            SessionConfig.development(storage=self.spy, extractor=extractor, on_event=self.events.append)
        )

    async def visit(self, view: PlainView, status: int = 200) -> tuple[bool, list[tuple[str, str]]]:
        """Whether the session is found, and the headers of a response to a handler that only reads."""
        exchange = self.store.exchange(view)
        await exchange.load()
        fresh = exchange.session.fresh
        headers = await exchange.commit(status)
        await exchange.finish()
        return not fresh, headers

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]


MALFORMED = ["", "x", "x" * 21, "x" * 257, "x" * 4096, "x" * (1 << 20), "*", "?", "../../etc/passwd", "csrf:abc"] + [
    T + char for char in '+/=.%~ ;,:"\\\x00\r\n\t\u00e9\u2000\u0661'
]


@pytest.mark.anyio
@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: repr(text)[:20].encode("ascii", "replace").decode())
async def test_text_that_cannot_be_an_id_costs_no_storage_call_and_is_never_reflected(text: str) -> None:
    site = Site(from_header("X-Sid"))
    found, headers = await site.visit(PlainView(headers=[("X-Sid", text)]))
    assert not found
    assert headers == []
    assert site.spy.calls == []
    assert site.kinds() == ["malformed"]
    assert len(text) < 2 or text not in repr(site.events)


@pytest.mark.anyio
async def test_a_storage_key_or_hash_presented_as_an_id_opens_nothing() -> None:
    site = Site(from_header("X-Sid"))
    session = await site.store.create({"a": 1})
    assert (await site.visit(PlainView(headers=[("X-Sid", session.id)])))[0]
    assert session.handle is not None
    for text in (session.handle, f"session:{session.handle}", f"2::{session.handle}", session.id.swapcase()):
        assert not (await site.visit(PlainView(headers=[("X-Sid", text)])))[0]


@pytest.mark.anyio
async def test_another_last_character_that_decodes_to_the_same_bytes_is_another_id() -> None:
    site = Site(from_header("X-Sid"))
    session = await site.store.create({"a": 1})
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(session.id[-1])
    for other in range(place // 4 * 4, place // 4 * 4 + 4):
        found, _ = await site.visit(PlainView(headers=[("X-Sid", session.id[:-1] + alphabet[other])]))
        assert found == (other == place)


@pytest.mark.anyio
async def test_a_stale_cookie_does_not_hide_a_valid_header() -> None:
    site = Site(chain(from_cookie("sid"), from_header("X-Sid")))
    session = await site.store.create({"a": 1})
    found, headers = await site.visit(PlainView(cookies=[b"sid=" + U.encode()], headers=[("X-Sid", session.id)]))
    assert found
    assert headers == []
    assert site.kinds().count("unknown") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("second", ["sid=short", "sid=", f"sid={U}"])
async def test_an_ambiguous_cookie_is_no_session_even_if_another_place_has_one(second: str) -> None:
    site = Site(chain(from_cookie("sid"), from_header("X-Sid")))
    session = await site.store.create({"a": 1})
    view = PlainView(cookies=[f"sid={session.id}; {second}".encode()], headers=[("X-Sid", session.id)])
    site.spy.calls.clear()
    found, headers = await site.visit(view)
    assert not found
    assert headers == []
    assert site.spy.calls == []
    assert site.kinds()[-1] == "ambiguous"


@pytest.mark.anyio
@pytest.mark.parametrize("source", ["query", "form", "param"])
async def test_an_id_from_a_url_or_form_is_ignored_by_default_and_read_only_when_asked_for(source: str) -> None:
    makers = {"query": from_query, "form": from_form, "param": from_param}
    shown = {"query": "queries", "form": "fields", "param": "params"}[source]
    for extractor, expected in ((from_cookie("sid"), False), (chain(from_cookie("sid"), makers[source]("sid")), True)):
        site = Site(extractor)
        session = await site.store.create({"a": 1})
        view = PlainView()
        setattr(view, shown, {"sid": session.id})
        found, headers = await site.visit(view)
        assert found == expected
        assert headers == []


def test_a_new_storage_is_made_for_each_config() -> None:
    assert isinstance(SessionConfig().storage, MemoryStorage)
    assert SessionConfig().storage is not SessionConfig().storage
