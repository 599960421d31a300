"""One field of a form body: found wherever it is, and no body can do harm."""

import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.numbers import scaled

from sessioncore.forms import MAX_FORM, form_field, is_form

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=XX"


def part(disposition: str, payload: str, more: str = "") -> str:
    return f"--XX\r\nContent-Disposition: {disposition}\r\n{more}\r\n{payload}\r\n"


def multipart(*parts: str, end: str = "--XX--\r\n") -> bytes:
    return ("".join(parts) + end).encode()


SID = part('form-data; name="sid"', "T")


def test_only_the_two_form_types_are_forms() -> None:
    for content_type in (URLENCODED, f"{URLENCODED.upper()} ; charset=utf-8", MULTIPART):
        assert is_form(content_type)
    for content_type in ("", "application/json", "text/plain", "multipart/mixed; boundary=x"):
        assert not is_form(content_type)
        assert form_field(content_type, b"sid=T", "sid") is None


BODIES: list[tuple[bytes, str | None]] = [
    (b"sid=T", "T"), (b"a=1&sid=T&b=2", "T"), (b"sid=T&sid=U", "T"), (b"s%69d=%54", "T"), (b"sid=a+b", "a b"),
    (b"sid=", ""), (b"sid", ""), (b"", None), (b"a=sid", None), (b"SID=T", None), (b"sid;a=1", None),
    (b"a=1;sid=T", None), (b"sid=%FF", "\ufffd"), (b"sid=\xff", "\xff"), (b"a&" * 2000 + b"sid=T", None),
]  # fmt: skip
PARTS: list[tuple[bytes, str | None]] = [
    (multipart(SID), "T"), (multipart(part('form-data; name="a"', "1"), SID), "T"),
    (multipart(SID, part('form-data; name="sid"', "U")), "T"), (multipart(part("form-data; name=sid", "T")), "T"),
    (multipart(part('form-data; NAME="sid"', "T")), "T"),
    (multipart(part('form-data; name="sid"', "T", "Content-Type: text/plain\r\n")), "T"),
    (multipart(part('form-data; name="sid"', "")), ""),
    (multipart(part('form-data; name="sid"', "a\r\n\r\nb")), "a\r\n\r\nb"), (b"preamble\r\n" + multipart(SID), "T"),
    (multipart(SID, end=""), "T\r\n"), (multipart(part('form-data; name="sid"; filename="x.txt"', "T")), None),
    (multipart(part("form-data; name=\"sid\"; filename*=UTF-8''x", "T")), None),
    (multipart(part('form-data; name="other"; x="; name=sid"', "T")), None),
    (multipart(part('form-data; filename="; name=sid"', "T")), None),
    (multipart(part('form-data; name="a\\"; name=sid"', "T")), None),
    (multipart(part('form-data; name="SID"', "T")), None), (multipart(part("form-data", "T")), None),
    (b"--XX--\r\n" + multipart(SID), None), (b"--XX\r\nContent-Type: text/plain\r\n\r\nT\r\n--XX--", None),
    (b'--XX\r\nContent-Disposition: form-data; name="sid"\r\n--XX--', None), (b"", None),
    (multipart(part('form-data; name="sid"', "T", "x: " + "y" * 5000 + "\r\n")), None),
]  # fmt: skip


def test_a_field_of_an_urlencoded_or_multipart_body() -> None:
    assert [(body, form_field(URLENCODED, body, "sid")) for body, _ in BODIES] == BODIES
    assert [(body, form_field(MULTIPART, body, "sid")) for body, _ in PARTS] == PARTS
    assert form_field(URLENCODED, b"%F0%9F%8D%AA=T", "\U0001f36a") == "T"


def test_the_boundary_may_be_quoted_or_followed_and_without_a_usable_one_there_is_no_field() -> None:
    for boundary in ("XX", '"XX"', "XX; charset=utf-8"):
        content_type = f'multipart/form-data; a="; boundary=ZZ"; boundary={boundary}'
        assert form_field(content_type, multipart(SID), "sid") == "T"
    for unusable in ("", "; boundary=", '; boundary=""', "; boundary=é", "; boundary=YY"):
        assert form_field("multipart/form-data" + unusable, multipart(SID), "sid") is None
    for length, found in ((1, "T"), (70, "T"), (71, None)):  # RFC 2046, 5.1.1
        body = multipart(SID).replace(b"--XX", b"--" + b"X" * length)
        assert form_field("multipart/form-data; boundary=" + "X" * length, body, "sid") == found


def test_what_a_real_client_sends_is_read() -> None:
    for files in ({"f": ("sid", b"x")}, None):
        request = httpx.Request("POST", "http://localhost", data={"a": "1", "sid": "T-é"}, files=files)
        assert form_field(request.headers["content-type"], request.read(), "sid") == "T-é"


def test_of_an_upload_the_fields_before_the_limit_are_searched() -> None:
    file = part('form-data; name="f"; filename="f"', "x" * MAX_FORM)
    for body, found in ((multipart(SID, file), "T"), (multipart(file, SID), None)):
        assert form_field(MULTIPART, body, "sid") == form_field(MULTIPART, body[: MAX_FORM + 1], "sid") == found
    for more, found in ((0, "T"), (1, None)):  # the delimiter after the field ends at the limit, or one byte behind
        before = part(
            'form-data; name="a"', "x" * (MAX_FORM + more - len(part('form-data; name="a"', "") + SID + "--XX"))
        )
        assert form_field(MULTIPART, multipart(before, SID, file), "sid") == found
    for body in b"sid=T&a=" + b"x" * MAX_FORM, b"a=" + b"x" * (MAX_FORM - 8) + b"&sid=T":
        assert form_field(URLENCODED, body, "sid") == "T"
        assert form_field(URLENCODED, b"b=1" + body[-MAX_FORM:], "sid") is None


def test_a_field_that_is_too_long_to_hold_an_id_is_none() -> None:
    for size, found in ((4096, "x" * 4096), (4097, None)):
        assert form_field(URLENCODED, b"sid=" + b"x" * size, "sid") == found
        assert form_field(MULTIPART, multipart(part('form-data; name="sid"', "x" * size)), "sid") == found


@given(st.sampled_from([URLENCODED, MULTIPART, "multipart/form-data; boundary=\xff"]) | st.text(), st.binary())
@settings(max_examples=scaled(500))
def test_no_body_makes_the_parser_raise(content_type: str, body: bytes) -> None:
    form_field(content_type, body, "sid")
    form_field(MULTIPART, b"--XX\r\nContent-Disposition: " + body + b"\r\n\r\nT\r\n--XX--", "sid")


@pytest.mark.parametrize(
    "unit", [b"--XX\r\n", b"\r\n", b"\r\n--X", b"a=1&", b"%", b';a="', b"; ", b"--XX\r\n\r\n", b"Content-Disposition: "]
)
@pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART])
def test_the_largest_body_is_searched_in_a_moment(content_type: str, unit: bytes) -> None:
    body = (unit * (MAX_FORM // len(unit)))[:MAX_FORM]
    begin = time.thread_time()
    form_field(content_type, body, "sid")
    form_field(content_type, b"--XX\r\nContent-Disposition: x" + body[:4000] + b"\r\n\r\nT", "sid")
    assert time.thread_time() - begin < 1.0
