"""The headers of responses: Vary is merged, caching is forbidden where an ID is sent, nothing else is changed."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from sessioncore._warnings import Warnings
from sessioncore.http._response_headers import revise

Pairs = list[tuple[bytes, bytes]]

SET = ("set-cookie", "sid=new; Path=/")
SENT = (b"set-cookie", b"sid=new; Path=/")
PLAIN = [(b"content-type", b"text/html"), (b"x-app", b"\xe9")]


def run(
    headers: Any, *added: tuple[str, str], vary: tuple[str, ...] = ("Cookie",), warnings: Warnings | None = None
) -> Pairs:
    return revise(headers, added, ", ".join(vary).encode(), {"sid"}, warnings or Warnings())


def as_text(headers: Pairs) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in headers]


def values(headers: Pairs, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


VARY: list[tuple[list[bytes], tuple[str, ...], list[bytes]]] = [
    ([], ("Cookie",), [b"Cookie"]), ([], ("Cookie", "X-Sid"), [b"Cookie, X-Sid"]),
    ([b"Accept"], ("Cookie",), [b"Accept, Cookie"]),
    ([b"accept-encoding, COOKIE"], ("Cookie",), [b"accept-encoding, COOKIE"]),
    ([b"Accept", b"Origin"], ("Cookie",), [b"Accept, Origin, Cookie"]),
    ([b"Accept", b"cookie"], ("Cookie",), [b"Accept", b"cookie"]), ([b"*"], ("Cookie",), [b"*"]),
    ([b"Accept, *"], ("Cookie",), [b"Accept, *"]), ([b""], ("Cookie",), [b"Cookie"]),
    ([b"Cookie"], ("Cookie", "X-Sid"), [b"Cookie, X-Sid"]), ([b"Cookies"], ("Cookie",), [b"Cookies, Cookie"]),
    ([b"Accept"], (), [b"Accept"]),
]  # fmt: skip


@pytest.mark.proves("AT-89")
@pytest.mark.parametrize(("present", "names", "expected"), VARY)
def test_vary_ignores_case_and_duplicates(present: list[bytes], names: tuple[str, ...], expected: list[bytes]) -> None:
    for name in (b"vary", b"Vary", b"VARY"):
        given = [*PLAIN, *((name, value) for value in present)]
        result = run(given, vary=names)
        assert values(result, b"vary") == expected
        assert result[: len(PLAIN)] == PLAIN
        text: Any = run(as_text(given), SET, vary=names)
        assert text == as_text(run(given, SET, vary=names))


def test_a_merged_vary_stands_where_the_first_one_stood() -> None:
    result = run([(b"vary", b"Accept"), (b"a", b"1"), (b"vary", b"Origin"), (b"b", b"2")])
    assert result == [(b"vary", b"Accept, Origin, Cookie"), (b"a", b"1"), (b"b", b"2")]


KEPT = [
    [b"private, max-age=600"], [b"PRIVATE"], [b"no-store"], [b"max-age=1", b" No-Store "], [b'note="a, b", private'],
]  # fmt: skip
REPLACED = [
    [], [b"public, max-age=600"], [b"max-age=600", b"s-maxage=60"], [b'private="set-cookie"'], [b"no-cache"],
    [b'public, community="a, private, b"'], [b'max-age=60, note="\\", no-store, '], [b"privateer"], [b""],
    [b"\x0bprivate"],
]  # fmt: skip


@pytest.mark.proves("AT-89", "ASVS 14.2.2")
def test_a_response_that_sends_an_id_is_never_storable_by_a_shared_cache() -> None:
    for added in (SET, ("x-sid", "new")):
        for name in (b"cache-control", b"Cache-Control"):
            for present in (*KEPT, *REPLACED):
                result = run([*PLAIN, *((name, value) for value in present)], added)
                assert values(result, b"cache-control") == (present if present in KEPT else [b"no-store"])
    assert values(run([(b"cache-control", b"public, max-age=600")]), b"cache-control") == [b"public, max-age=600"]


@pytest.mark.proves("AT-89")
def test_headers_that_overrule_cache_control_are_removed_from_responses_with_an_id() -> None:
    for name in (b"CDN-Cache-Control", b"cloudflare-cdn-cache-control", b"Surrogate-Control", b"X-Accel-Expires"):
        headers = [(b"cache-control", b"private"), (name, b"max-age=600")]
        assert values(run(headers, SET), name.lower()) == []
        assert values(run(headers), name.lower()) == [b"max-age=600"]


@pytest.mark.proves("AT-91")
@pytest.mark.parametrize("own", [b"sid=evil; Path=/", b"sid=", b" sid =x", b"sid"])
def test_an_applications_session_cookie_is_dropped_with_a_warning(own: bytes, caplog: pytest.LogCaptureFixture) -> None:
    others = [(b"set-cookie", b"theme=dark"), (b"set-cookie", b"sidebar=1"), (b"Set-Cookie", b"SID=2")]
    warnings = Warnings()
    for added, sent in (((), []), ((SET,), [SENT])):
        with caplog.at_level(logging.WARNING, "sessioncore"):
            result = run([others[0], (b"Set-Cookie", own), *others[1:]], *added, warnings=warnings)
        assert [pair for pair in result if pair[0].lower() == b"set-cookie"] == [*others, *sent]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert re.search(r"the cookie sid,.*destroy\(\)", caplog.text)
        assert "evil" not in caplog.text


def test_an_id_header_replaces_the_applications_header_of_that_name() -> None:
    result = run([(b"X-Sid", b"forged"), (b"x-other", b"1")], ("x-sid", "new"))
    assert (values(result, b"x-sid"), values(result, b"x-other")) == ([b"new"], [b"1"])


@pytest.mark.proves("AT-92")
def test_any_iterable_of_pairs_will_do_and_is_not_changed() -> None:
    given = [(b"vary", b"Accept"), (b"cache-control", b"public")]
    shapes: list[Callable[[Pairs], Any]] = [list, tuple, iter, lambda pairs: (pair for pair in pairs)]
    for shape in shapes:
        assert run(shape(given), SET) == [(b"vary", b"Accept, Cookie"), (b"cache-control", b"no-store"), SENT]
    assert given == [(b"vary", b"Accept"), (b"cache-control", b"public")]
    assert [tuple(pair) for pair in run([[b"vary", b"Accept"]])] == [(b"vary", b"Accept, Cookie")]


def test_a_response_gets_only_what_it_needs() -> None:
    headers = [*PLAIN, (b"cache-control", b"public"), (b"Vary", b"Accept"), (b"set-cookie", b"theme=dark")]
    assert run(headers, vary=()) == headers
    plain = [(b"content-type", b"text/html"), (b"content-length", b"2")]
    no_store, vary = (b"cache-control", b"no-store"), (b"vary", b"Cookie")
    assert run(plain) == [*plain, vary]
    assert run(plain, SET) == [*plain, no_store, vary, SENT]
    assert run(plain, ("date", "forged")) == [*plain, no_store, vary, (b"date", b"forged")]
