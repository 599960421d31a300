"""What becomes of a response's headers: Vary merged, caches forbidden where an ID is sent, nothing else touched."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessioncore.http._response_headers import _revise_fully, revise  # pyright: ignore[reportPrivateUsage]  # compared below

SET = ("set-cookie", "sid=new; Path=/")
PLAIN = [(b"content-type", b"text/html"), (b"x-app", b"1")]


def run(headers: Any, *added: tuple[str, str], vary: tuple[str, ...] = ("Cookie",)) -> list[tuple[bytes, bytes]]:
    return revise(headers, added, ", ".join(vary).encode(), {"sid"})


def values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


@pytest.mark.parametrize(
    ("present", "names", "expected"),
    [
        ([], ("Cookie",), [b"Cookie"]),
        ([], ("Cookie", "X-Sid"), [b"Cookie, X-Sid"]),
        ([b"Accept"], ("Cookie",), [b"Accept, Cookie"]),
        ([b"accept-encoding, COOKIE"], ("Cookie",), [b"accept-encoding, COOKIE"]),
        ([b"Accept", b"Origin"], ("Cookie",), [b"Accept, Origin, Cookie"]),
        ([b"Accept", b"cookie"], ("Cookie",), [b"Accept", b"cookie"]),
        ([b"*"], ("Cookie",), [b"*"]),
        ([b"Accept, *"], ("Cookie",), [b"Accept, *"]),
        ([b""], ("Cookie",), [b"Cookie"]),
        ([b"Cookie"], ("Cookie", "X-Sid"), [b"Cookie, X-Sid"]),
        ([b"Cookies"], ("Cookie",), [b"Cookies, Cookie"]),
        ([b"Accept"], (), [b"Accept"]),
    ],
)
@pytest.mark.parametrize("name", [b"vary", b"Vary", b"VARY"])
def test_vary_is_merged_without_case_and_without_duplicates(
    name: bytes, present: list[bytes], names: tuple[str, ...], expected: list[bytes]
) -> None:
    result = run([*PLAIN, *((name, value) for value in present)], vary=names)
    assert values(result, b"vary") == expected
    assert result[: len(PLAIN)] == PLAIN


def test_a_merged_vary_stands_where_the_first_one_stood() -> None:
    result = run([(b"vary", b"Accept"), (b"a", b"1"), (b"vary", b"Origin"), (b"b", b"2")])
    assert result == [(b"vary", b"Accept, Origin, Cookie"), (b"a", b"1"), (b"b", b"2")]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], [b"no-store"]),
        ([b"public, max-age=600"], [b"no-store"]),
        ([b"max-age=600", b"s-maxage=60"], [b"no-store"]),
        ([b"private, max-age=600"], [b"private, max-age=600"]),
        ([b"PRIVATE"], [b"PRIVATE"]),
        ([b"no-store"], [b"no-store"]),
        ([b"max-age=1", b" No-Store "], [b"max-age=1", b" No-Store "]),
        ([b'private="set-cookie"'], [b"no-store"]),
        ([b'public, community="a, private, b"'], [b"no-store"]),
        ([b'max-age=60, note="\\", no-store, '], [b"no-store"]),
        ([b'note="a, b", private'], [b'note="a, b", private']),
        ([b"no-cache"], [b"no-store"]),
        ([b"privateer"], [b"no-store"]),
        ([b""], [b"no-store"]),
    ],
)
@pytest.mark.parametrize("name", [b"cache-control", b"Cache-Control"])
@pytest.mark.parametrize("added", [SET, ("x-sid", "new")])
def test_a_response_that_sends_an_id_is_never_storable_by_a_shared_cache(
    name: bytes, present: list[bytes], expected: list[bytes], added: tuple[str, str]
) -> None:
    result = run([*PLAIN, *((name, value) for value in present)], added)
    assert values(result, b"cache-control") == expected


@pytest.mark.parametrize(
    "name", [b"CDN-Cache-Control", b"cloudflare-cdn-cache-control", b"Surrogate-Control", b"X-Accel-Expires"]
)
def test_headers_that_overrule_cache_control_for_some_caches_go_where_an_id_is_sent(name: bytes) -> None:
    headers = [(b"cache-control", b"private"), (name, b"max-age=600")]
    assert values(run(headers, SET), name.lower()) == []
    assert values(run(headers), name.lower()) == [b"max-age=600"]


def test_a_response_that_sends_no_id_keeps_its_cache_control() -> None:
    assert values(run([(b"cache-control", b"public, max-age=600")]), b"cache-control") == [b"public, max-age=600"]


@pytest.mark.parametrize("own", [b"sid=evil; Path=/", b"sid=", b" sid =x", b"sid"])
@pytest.mark.parametrize("added", [(), (SET,)])
def test_the_applications_own_session_cookie_is_dropped_with_a_warning(
    own: bytes, added: tuple[tuple[str, str], ...], caplog: pytest.LogCaptureFixture
) -> None:
    others = [(b"set-cookie", b"theme=dark"), (b"set-cookie", b"sidebar=1"), (b"Set-Cookie", b"SID=2")]
    with caplog.at_level(logging.WARNING, "sessioncore"):
        result = run([others[0], (b"Set-Cookie", own), *others[1:]], *added)
    assert [pair for pair in result if pair[0].lower() == b"set-cookie"] == [
        *others, *((name.encode(), value.encode()) for name, value in added),
    ]  # fmt: skip
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "evil" not in caplog.text


def test_other_cookies_keep_their_order_and_are_not_folded() -> None:
    cookies = [(b"set-cookie", b"b=2"), (b"x", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=3")]
    result = run(cookies, SET)
    assert result[: len(cookies)] == cookies
    assert result[-1] == (b"set-cookie", b"sid=new; Path=/")


def test_an_id_header_replaces_the_applications_header_of_that_name() -> None:
    result = run([(b"X-Sid", b"forged"), (b"x-other", b"1")], ("x-sid", "new"))
    assert values(result, b"x-sid") == [b"new"]
    assert values(result, b"x-other") == [b"1"]


SHAPES: dict[str, Callable[[list[tuple[bytes, bytes]]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda pairs: (pair for pair in pairs),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_any_iterable_of_pairs_will_do_and_is_not_changed(shape: Any) -> None:
    given = [(b"vary", b"Accept"), (b"cache-control", b"public")]
    expected = [(b"vary", b"Accept, Cookie"), (b"cache-control", b"no-store"), (b"set-cookie", b"sid=new; Path=/")]
    assert run(shape(given), SET) == expected
    assert given == [(b"vary", b"Accept"), (b"cache-control", b"public")]


def test_lists_as_pairs_come_out_usable() -> None:
    assert [tuple(pair) for pair in run([[b"vary", b"Accept"]])] == [(b"vary", b"Accept, Cookie")]


def test_nothing_to_say_changes_nothing() -> None:
    headers = [*PLAIN, (b"cache-control", b"public"), (b"Vary", b"Accept"), (b"set-cookie", b"theme=dark")]
    assert run(headers, vary=()) == headers


_names = st.sampled_from(
    [
        b"content-type",
        b"Content-Type",
        b"date",
        b"etag",
        b"vary",
        b"Vary",
        b"cache-control",
        b"set-cookie",
        b"x-sid",
        b"X-a",
    ]
)
_headers = st.lists(st.tuples(_names, st.sampled_from([b"a", b"sid=1", b"public", b"Cookie", b"*", b""])), max_size=5)
_added = st.lists(st.sampled_from([SET, ("x-sid", "new"), ("date", "new")]), max_size=2, unique=True)


@given(_headers, _added, st.sampled_from([b"", b"Cookie", b"Cookie, X-Sid"]))
def test_the_quick_way_for_plain_responses_gives_what_the_careful_way_gives(
    headers: list[tuple[bytes, bytes]], added: list[tuple[str, str]], vary: bytes
) -> None:
    assert revise(headers, added, vary, {"sid"}) == _revise_fully(headers, added, vary, {"sid"})


@pytest.mark.parametrize("added", [(), (SET,), (("date", "forged"),)])
def test_a_plain_response_gets_only_what_it_needs(added: tuple[tuple[str, str], ...]) -> None:
    headers = [(b"content-type", b"text/html"), (b"content-length", b"2")]
    own = [(b"cache-control", b"no-store")] if added else []
    sent = [(name.encode(), value.encode()) for name, value in added]
    assert run(headers, *added) == [*headers, *own, (b"vary", b"Cookie"), *sent]
