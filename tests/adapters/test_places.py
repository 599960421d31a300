"""IDs in headers, queries, forms and paths, alone and in chains, on every adapter."""

import pytest
from tests.adapters.browser import chunked
from tests.adapters.conftest import OpenSite, Site

from sessioncore import (
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_lookup,
    from_param,
    from_query,
)

BOUNDARY = "----form"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
UNKNOWN = "A" * 43


def _multipart(**fields: str) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return "".join([*parts, f"--{BOUNDARY}--\r\n"]).encode()


def _cookie(sid: str) -> tuple[str, str]:
    return "Cookie", f"__Host-session_id={sid}"


@pytest.fixture
def chained(open_site: OpenSite) -> Site:
    return open_site(extractor=chain(from_cookie(), from_header("X-Session"), from_query("sid")))


def test_a_new_id_goes_to_every_cookie_and_header_place(chained: Site) -> None:
    reply = chained.raw("/counter")
    sid = reply.one("x-session")
    assert sid is not None
    assert f"__Host-session_id={sid};" in reply.set_cookies[0]
    assert reply.one("vary") == "Cookie, X-Session"
    assert reply.one("cache-control") == "no-store"
    for found in (("X-Session", sid), _cookie(sid)):
        again = chained.raw("/counter", found)
        assert again.set_cookies == again.all("x-session") == []
    assert chained.raw(f"/read?sid={sid}").text == '{"n":3}'


def test_a_stale_cookie_does_not_hide_a_valid_header(chained: Site) -> None:
    sid = chained.make({"n": 1})
    assert chained.raw("/read", _cookie(UNKNOWN), ("X-Session", sid)).text == '{"n":1}'
    assert chained.raw("/read", _cookie("junk"), ("X-Session", sid)).text == '{"n":1}'


def test_two_valid_ids_are_never_mixed(chained: Site) -> None:
    first, second = chained.make({"a": 1}), chained.make({"b": 2})
    assert chained.raw("/read", _cookie(first), ("X-Session", second)).text == '{"a":1}'


def test_two_different_headers_are_none(chained: Site) -> None:
    first, second = chained.make({"a": 1}), chained.make({"b": 2})
    assert chained.raw("/read", ("X-Session", first), ("X-Session", second)).text == "{}"
    assert chained.kinds() == ["ambiguous"]


def test_an_id_from_the_query_is_never_promoted_to_a_cookie(chained: Site) -> None:
    sid = chained.make({"n": 1})
    for path in (f"/counter?sid={sid}", f"/read?sid={sid}", f"/logout?sid={sid}"):
        reply = chained.raw(path)
        assert reply.set_cookies == reply.all("x-session") == []
    assert chained.count() == 0


def test_an_id_minted_after_one_from_the_query_is_sent(chained: Site) -> None:
    sid = chained.make({"n": 1})
    reply = chained.raw(f"/login?sid={sid}")
    assert len(reply.set_cookies) == 1
    assert sid not in reply.set_cookies[0]
    assert chained.data(sid) is None


def test_a_logout_clears_the_cookie_and_the_header(chained: Site) -> None:
    reply = chained.raw("/logout", ("X-Session", chained.make({"n": 1})))
    assert "Max-Age=0" in reply.set_cookies[0]
    assert reply.all("x-session") == [""]


def test_the_query_is_not_read_by_default(site: Site) -> None:
    sid = site.make({"n": 1})
    for path in (f"/read?__Host-session_id={sid}", f"/read?session_id={sid}", f"/read?sid={sid}"):
        assert site.raw(path).text == "{}"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["Bearer {T}"], True),
        (["bearer  {T}"], True),
        (["Bearer {T}, Bearer {T}"], False),
        (["Bearer {T}\tx"], False),
        (["Bearer {T} x"], False),
        (["Basic {T}"], False),
        (["Bearer"], False),
        (["{T}"], False),
        (["Bearer {T}", "Bearer {T}"], False),
    ],
)
def test_a_bearer_token_is_read_strictly(open_site: OpenSite, values: list[str], found: bool) -> None:
    site = open_site(extractor=from_auth_header())
    sid = site.make({"n": 1})
    reply = site.raw("/read", *[("Authorization", value.replace("{T}", sid)) for value in values])
    assert reply.text == ('{"n":1}' if found else "{}")
    assert reply.one("vary") == "Authorization"
    assert site.raw("/counter").set_cookies == []


@pytest.fixture
def formed(open_site: OpenSite) -> Site:
    return open_site(extractor=chain(from_cookie(), from_form("sid")))


@pytest.mark.parametrize("length", ["announced", "chunked"])
@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_the_session_and_the_handler_read_one_form(formed: Site, kind: str, length: str) -> None:
    sid = formed.make({"n": 7})
    body = f"sid={sid}&name=ada".encode() if kind == "urlencoded" else _multipart(sid=sid, name="ada")
    headers = [("Content-Type", URLENCODED if kind == "urlencoded" else MULTIPART)]
    if length == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        body = chunked(body, 10)
    reply = formed.raw("/form", *headers, method="POST", body=body)
    assert (reply.status, reply.text) == (200, "7 ada")
    assert reply.set_cookies == []


@pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART, "application/json", "text/plain"])
@pytest.mark.parametrize("size", [10, 100_000, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_the_handler_gets_every_byte_of_an_upload(formed: Site, content_type: str, size: int) -> None:
    body = b"x" * size
    reply = formed.raw("/upload", ("Content-Type", content_type), method="POST", body=body)
    assert (reply.status, reply.text) == (200, f"None {size}")
    headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
    reply = formed.raw("/upload", *headers, method="POST", body=chunked(body, 60_000))
    assert (reply.status, reply.text) == (200, f"None {size}")


def test_an_id_in_a_form_too_large_is_not_found_and_the_upload_arrives(formed: Site) -> None:
    sid = formed.make({"n": 7})
    body = f"sid={sid}&name=".encode() + b"x" * (1 << 20)
    reply = formed.raw("/upload", ("Content-Type", URLENCODED), method="POST", body=body)
    assert reply.text == f"None {len(body)}"


def test_a_form_is_not_read_where_the_cookie_suffices(formed: Site) -> None:
    first, second = formed.make({"n": 1}), formed.make({"n": 2})
    body = f"sid={second}&name=ada".encode()
    reply = formed.raw("/form", ("Content-Type", URLENCODED), _cookie(first), method="POST", body=body)
    assert reply.text == "1 ada"


def test_a_form_field_in_the_query_string_is_none(formed: Site) -> None:
    sid = formed.make({"n": 7})
    reply = formed.raw(f"/form?sid={sid}", ("Content-Type", URLENCODED), method="POST", body=b"name=ada")
    assert reply.text == "None ada"


@pytest.mark.parametrize("body", [b"", b"\xff\xfe=1&sid=%ff", b"sid", b"&&&&", b"sid=%00", b"--x\r\n\r\n"])
def test_bodies_that_are_no_form_hold_no_id(formed: Site, body: bytes) -> None:
    for content_type in (URLENCODED, MULTIPART, "multipart/form-data", "multipart/form-data; boundary="):
        reply = formed.raw("/upload", ("Content-Type", content_type), method="POST", body=body)
        assert (reply.status, reply.text) == (200, f"None {len(body)}")


def test_the_path_can_hold_the_id(open_site: OpenSite) -> None:
    site = open_site(extractor=from_param("id", path="/share/{id}"))
    sid = site.make({"n": 1})
    reply = site.raw(f"/share/{sid}")
    assert (reply.text, reply.set_cookies) == ('{"n":1}', [])
    assert site.raw(f"/share/{UNKNOWN}").text == "{}"
    assert site.raw("/share/..%2f..%2fetc").status in {200, 404}
    assert site.raw("/read").text == "{}"


def test_a_lookup_of_fiber_works_the_same(open_site: OpenSite) -> None:
    site = open_site(extractor=from_lookup("cookie:__Host-session_id,header:X-Sid"))
    reply = site.raw("/counter")
    assert reply.one("x-sid") is not None
    assert len(reply.set_cookies) == 1
