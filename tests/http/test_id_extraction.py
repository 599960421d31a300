"""Where an ID may be in a request: each extractor reads exactly its own place, and says where new IDs go."""

import inspect
from typing import Any

import anyio
import pytest
from tests.views import PlainView

from sessioncore import (
    ConfigError,
    Extractor,
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
from sessioncore.http._extractors import flatten, vary_names
from sessioncore.http._ids import AmbiguousID

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


def test_different_values_in_one_place_are_ambiguous_and_equal_ones_are_not() -> None:
    for view in (PlainView(cookies=[b"sid=a; sid=b"]), PlainView(headers=[("sid", "a"), ("SID", "b")])):
        with pytest.raises(AmbiguousID):
            read(chain(from_cookie("sid"), from_header("sid")), view)
    assert read(from_header("sid"), PlainView(headers=[("sid", "a"), ("Sid", "a")])) == "a"


BEARERS: list[tuple[list[str], str | None]] = [
    ([f"Bearer {T}"], T), ([f"bearer {T}"], T), ([f"BEARER   {T}"], T),
    (["Bearer a.b-c_d~e+f/g=="], "a.b-c_d~e+f/g=="),
    (["Bearer"], None), (["Bearer "], None), (["Bearer =="], None), ([f"Bearer{T}"], None), ([T], None), ([""], None),
    ([f"Bearer {T}, Bearer {U}"], None), ([f"Bearer {T} {U}"], None), ([f"Bearer {T}\tx"], None),
    ([f"Bearer\t{T}"], None), ([f" Bearer {T}"], None), ([f"Bearer {T} "], None), ([f"Bearer a=b{T}"], None),
    ([f"Bearer {T}\u00e9"], None), ([f"Bearer {T}\u0661"], None), ([f"Basic {T}"], None), ([f'Bearer "{T}"'], None),
    ([f"Bearer {T}", f"Bearer {T}"], None), ([f"Bearer {T}", "Basic x"], None),
]  # fmt: skip


@pytest.mark.proves("AT-22")
def test_only_one_authorization_header_with_one_token68_counts() -> None:
    for values, found in BEARERS:
        view = PlainView(headers=[("authorization", value) for value in values])
        assert read(from_auth_header(), view) == found, values
    view = PlainView(headers=[("Authorization", f"session {T}")])
    assert read(from_auth_header("Session"), view) == T
    assert read(from_auth_header("Bearer"), view) is None


PATHS: list[tuple[str, str, str | None]] = [
    ("/share/{id}", f"/share/{T}", T), ("/share/{id}", "/share/", None), ("/share/{id}", f"/share/{T}/", None),
    ("/share/{id}", f"/share/{T}/more", None), ("/share/{id}", f"/x/share/{T}", None),
    ("/{lang}/share/{id}/view", f"/en/share/{T}/view", T), ("/{lang}/share/{id}", f"/a/b/share/{T}", None),
    ("/{id}/{id}", f"/{T}/{U}", T), ("/a.b/{id}", f"/axb/{T}", None), ("/a.b/{id}", f"/a.b/{T}", T),
    ("/f({id})", f"/f({T})", T),
]  # fmt: skip


def test_a_path_parameter_is_one_segment_of_the_route() -> None:
    for route, path, found in PATHS:
        assert read(from_param("id", path=route), PlainView(path=path)) == found, (route, path)
    for route in "/share/{other}", "share/{id}":  # the second would match no path
        with pytest.raises(ConfigError, match=r"begins with / and contains \{id\}"):
            from_param("id", path=route)
    with pytest.raises(ConfigError, match=r"one \{name\} only"):  # 4,000 characters took 52 seconds to match
        from_param("id", path="/{a}-{id}-{b}")


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


def test_vary_names_the_headers_that_an_extractor_reads() -> None:
    tried = chain(from_cookie("a"), chain(from_header("X-Sid"), from_cookie("b")), from_auth_header(), from_query("q"))
    assert vary_names(tried) == ("Cookie", "X-Sid", "Authorization")
    assert vary_names(Extractor(lambda _: None, Source.COOKIE, "sid")) == ("Cookie",)
    assert vary_names(Extractor(lambda _: None, Source.HEADER, "X-Sid")) == ("X-Sid",)
    assert vary_names(Extractor(lambda _: None, Source.OTHER, "x")) == ()
    assert vary_names(Extractor(lambda _: None, Source.HEADER, "X-Sid", vary=("X-Token",))) == ("X-Token",)


def test_names_and_lookups_that_are_empty_or_impossible_are_refused() -> None:
    in_headers: list[Any] = ["", "a b", "a\r\nb", "a:b", "a;b", "é", "a,b", None, 5, b"sid"]
    fields: list[Any] = ["", None, 5]
    lookups: list[Any] = ["", "cookie", "cookie:", ":sid", "cookies:sid", "cookie:a,", "cookie:a b", None, 5]
    refused: list[tuple[Any, list[Any]]] = [
        *((make, in_headers) for make in (from_cookie, from_header, from_auth_header)),
        *((make, fields) for make in (from_query, from_form, from_param)),
        (from_lookup, lookups),
    ]
    for make, names in refused:
        for name in names:
            with pytest.raises(ConfigError):
                make(name)
    chains: list[Any] = [(), ("cookie:sid",), (from_cookie("sid"), None), ([from_cookie("sid")],)]
    for parts in chains:
        with pytest.raises(ConfigError):
            chain(*parts)
