"""The session cookie: found only where a browser put it, written exactly as it must be, refused where it is unsafe."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.cookie_headers import AMBIGUOUS, FOUND, MALFORMED, RESEMBLING, filled
from tests.numbers import scaled

from sessioncore import ConfigError
from sessioncore.http._cookie_checks import check_cookie, check_cookie_place
from sessioncore.http._cookies import CookieSettings, CookieWriter, read_cookie
from sessioncore.http._ids import AmbiguousID
from sessioncore.http._names import is_token

NAME = b"__Host-session_id"
T = "T" * 43


def read(*headers: bytes) -> str | None:
    return read_cookie(filled(headers, NAME, T), NAME)


@pytest.mark.proves("AT-16", "AT-18")
def test_the_cookie_is_found_among_others_in_any_header() -> None:
    assert [headers for headers in FOUND if read(*headers) != T] == []
    assert read(f"__Host-session_id={T}".encode()) == T


@pytest.mark.proves("AT-9", "AT-10", "AT-11", "AT-12", "AT-14")
def test_a_name_that_only_resembles_the_cookie_is_ignored() -> None:
    assert [headers for headers in RESEMBLING if read(*headers) is not None] == []


@pytest.mark.proves("AT-12", "AT-13")
def test_a_value_is_taken_as_it_is_and_never_decoded() -> None:
    for headers, value in MALFORMED:
        assert read(*headers) == value.replace("@", T), headers


@pytest.mark.proves("AT-15")
def test_two_different_values_are_ambiguous_also_when_one_is_malformed() -> None:
    for headers in AMBIGUOUS:
        with pytest.raises(AmbiguousID):
            read(*headers)


def reference(headers: list[bytes], name: bytes) -> list[bytes]:
    """Every value of the cookie by the steps of RFC 6265bis, section 5.6.3, one octet at a time."""
    found: list[bytes] = []
    for header in headers:
        rest = header
        while rest:
            end = next((i for i, octet in enumerate(rest) if octet == 0x3B), len(rest))
            pair, rest = rest[:end], rest[end + 1 :]
            sign = next((i for i, octet in enumerate(pair) if octet == 0x3D), None)
            if sign is None:
                continue
            key, value = pair[:sign], pair[sign + 1 :]
            while key and key[0] in (0x20, 0x09):
                key = key[1:]
            while key and key[-1] in (0x20, 0x09):
                key = key[:-1]
            while value and value[0] in (0x20, 0x09):
                value = value[1:]
            while value and value[-1] in (0x20, 0x09):
                value = value[:-1]
            if key == name:
                found.append(value)
    return found


_pieces = st.sampled_from(
    [b"sid", b"SID", b"=", b";", b" ", b"\t", b"T", b"U", b'"', b",", b"\\", b"\x0b", b"\x85", b"%3D", b"\x00", b"$"]
)
_headers = st.lists(st.lists(_pieces, max_size=14).map(b"".join) | st.binary(max_size=20), max_size=3)


@pytest.mark.proves("AT-12")
@given(_headers)
@settings(max_examples=scaled(3000))
def test_the_parser_agrees_with_a_literal_reading_of_the_rfc(headers: list[bytes]) -> None:
    expected = reference(headers, b"sid")
    if len(set(expected)) > 1:
        with pytest.raises(AmbiguousID):
            read_cookie(headers, b"sid")
    else:
        assert read_cookie(headers, b"sid") == (expected[0].decode("latin-1") if expected else None)


@pytest.mark.proves("AT-17")
@pytest.mark.parametrize(
    "unit", [b"a=1; ", b"\\", b'"', b";", NAME + b"; ", b"=", b" ", NAME + b"=T; "], ids=str
)  # fmt: skip
def test_ten_times_the_header_takes_about_ten_times_the_time(unit: bytes) -> None:
    def best(header: bytes) -> float:
        times: list[float] = []
        for _ in range(7):
            begin = time.thread_time()  # without the time of other processes
            read_cookie([header], NAME)
            times.append(time.thread_time() - begin)
        return min(times)

    small, large = unit * (20_000 // len(unit)), unit * (200_000 // len(unit))
    assert best(large) < 30 * max(best(small), 1e-5)


def settings_with(**changes: Any) -> CookieSettings:
    defaults: dict[str, Any] = {
        "path": "/", "domain": None, "secure": True, "http_only": True, "same_site": "lax", "partitioned": False,
    }  # fmt: skip
    return CookieSettings(**{**defaults, **changes})


def writer(name: str = "__Host-sid", **changes: Any) -> CookieWriter:
    return CookieWriter.build(name, settings_with(**changes))


@pytest.mark.proves("AT-28", "ASVS 3.3.1", "ASVS 3.3.2", "ASVS 3.3.3", "ASVS 3.3.4")
def test_the_default_cookie_the_fullest_and_the_barest_are_written_as_expected() -> None:
    assert writer().set(T, 86400.0) == f"__Host-sid={T}; Max-Age=86400; Path=/; HttpOnly; Secure; SameSite=Lax"
    full = writer("sid", path="/app", domain="example.com", same_site="none", partitioned=True)
    attributes = "Path=/app; Domain=example.com; HttpOnly; Secure; SameSite=None; Partitioned"
    assert full.set(T, 60) == f"sid={T}; Max-Age=60; {attributes}"
    assert full.clear() == f"sid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {attributes}"
    bare = writer("sid", secure=False, http_only=False, same_site="strict")
    assert bare.set(T, None) == f"sid={T}; Path=/; SameSite=Strict"
    assert bare.clear() == "sid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; SameSite=Strict"


@pytest.mark.proves("AT-84")
def test_max_age_is_whole_seconds_rounded_and_within_400_days() -> None:
    for seconds, max_age in [
        (0.4, 0), (0.6, 1), (59.5, 60), (59.49, 59), (-5.0, 0), (86399.7, 86400),
        (400 * 86400.0, 34560000), (400 * 86400 + 1.0, 34560000), (1e12, 34560000),
    ]:  # fmt: skip
        assert f"; Max-Age={max_age};" in writer().set(T, seconds)


def check(name: Any = "sid", **changes: Any) -> None:
    check_cookie_place(settings_with(**changes))
    check_cookie(name, settings_with(**changes))


@pytest.mark.proves("AT-93")
@pytest.mark.parametrize("field", ["name", "path", "domain"])
def test_a_character_that_could_end_the_attribute_is_refused(field: str) -> None:
    slash = "/" if field == "path" else ""
    for char in ("\r", "\n", ";", ",", "\x00", " ", "\t", "é", "\u2000", "\x7f", "\ud800"):
        for text in (f"{slash}a{char}b", f"{slash}a{char}"):
            with pytest.raises(ConfigError):
                check(**{field: text})


BAD: list[dict[str, Any]] = [
    {"name": ""}, {"name": None}, {"name": 5}, {"name": b"sid"}, {"name": "x" * 257}, {"name": "a=b"}, {"name": '"a"'},
    {"path": ""}, {"path": "app"}, {"path": None}, {"path": "/" + "a" * 1024},
    {"domain": ""}, {"domain": "."}, {"domain": "-a.example"}, {"domain": "a..b"}, {"domain": "a-.b"}, {"domain": 7},
    {"domain": "https://example.com"}, {"domain": "example.com:8000"}, {"domain": "a" * 254}, {"domain": "a.b."},
    {"same_site": "none", "secure": False}, {"partitioned": True, "secure": False},
]  # fmt: skip


@pytest.mark.proves("AT-93", "AT-94", "AT-95", "ASVS 3.3.5")
def test_a_bad_cookie_setting_is_refused_and_plain_host_names_pass() -> None:
    for bad in BAD:
        with pytest.raises(ConfigError):
            check(**bad)
    for domain in ("example.com", ".example.com", "localhost", "a-b.example.co.uk", "127.0.0.1"):
        check(domain=domain)


@pytest.mark.proves("AT-94", "ASVS 3.3.3")
def test_names_with_a_prefix_need_its_settings_in_upper_and_lower_case() -> None:
    promises: list[tuple[list[str], list[dict[str, Any]], str]] = [
        (
            ["__Host-sid", "__HOST-sid", "__host-sid", "__hOsT-sid"],
            [{"secure": False}, {"path": "/x"}, {"domain": "example.com"}],
            "__Host-",
        ),
        (["__Secure-sid", "__SECURE-sid", "__Http-sid"], [{"secure": False}], "cookie_secure=True"),
        (["__Http-sid", "__Host-Http-sid", "__host-http-sid"], [{"http_only": False}], "cookie_http_only=True"),
    ]
    for names, broken, text in promises:
        for name in names:
            check(name)
            for changes in broken:
                with pytest.raises(ConfigError, match=text):
                    check(name, **changes)
    check("__Secure-sid", path="/x", domain="example.com")


def test_a_token_is_ascii_without_separators() -> None:
    assert is_token("!#$%&'*+.^_`|~-09azAZ")
    assert not any(is_token(text) for text in ["", "a b", "a\n", "é", "a/b", "a:b", None, b"a", 5])
