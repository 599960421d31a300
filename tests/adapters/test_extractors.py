"""IDs in headers, queries, forms and paths, alone and in chains, on every adapter."""

import pytest
from tests.adapters.browser import chunked
from tests.adapters.conftest import OpenSite, Site, Sites
from tests.stores import SpyStorage

from sessioncore import chain, from_auth_header, from_cookie, from_form, from_header, from_param, from_query

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


CHAINED = chain(from_cookie(), from_header("X-Session"), from_query("sid"))
FORMED = chain(from_cookie(), from_form("sid"))


@pytest.fixture
def chained(adapter: str, sites: Sites) -> Site:
    return sites(adapter, SpyStorage, extractor=CHAINED).reset()


def test_a_new_id_goes_to_every_cookie_and_header_place_and_a_logout_clears_both(chained: Site) -> None:
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
    reply = chained.raw("/logout", ("X-Session", sid))
    assert "Max-Age=0" in reply.set_cookies[0]
    assert reply.all("x-session") == [""]


def test_both_values_of_a_header_are_seen(chained: Site) -> None:
    first, second = chained.make({"a": 1}), chained.make({"b": 2})
    assert chained.raw("/read", _cookie(first), ("X-Session", second)).text == '{"a":1}'
    assert chained.raw("/read", ("X-Session", first), ("X-Session", second)).text == "{}"
    assert chained.kinds() == ["ambiguous"]


@pytest.mark.proves("AT-20")
def test_an_id_from_the_query_is_sent_nowhere_and_a_new_one_is(chained: Site) -> None:
    sid = chained.make({"n": 1})
    for path in ("/counter", "/read", "/login", "/logout"):
        reply = chained.raw(f"{path}?sid={sid}")
        if path == "/login":
            assert chained.data(sid) is None
            sid = reply.one("x-session") or ""
            assert f"__Host-session_id={sid};" in reply.set_cookies[0]
        else:
            assert reply.set_cookies == reply.all("x-session") == []
    assert chained.count() == 0


@pytest.mark.proves("AT-20", "ASVS 14.2.1")
def test_the_query_is_not_read_by_default(site: Site) -> None:
    sid = site.make({"n": 1})
    for path in (f"/read?__Host-session_id={sid}", f"/read?session_id={sid}", f"/read?sid={sid}"):
        assert site.raw(path).text == "{}"


@pytest.mark.proves("AT-22")
def test_an_id_may_stand_in_one_bearer_token(open_site: OpenSite) -> None:
    site = open_site(extractor=from_auth_header())
    bearer = f"Bearer {site.make({'n': 1})}"
    for values, text in (([bearer], '{"n":1}'), ([bearer, bearer], "{}"), ([f"{bearer}, {bearer}"], "{}")):
        reply = site.raw("/read", *[("Authorization", value) for value in values])
        assert (reply.text, reply.one("vary")) == (text, "Authorization")
    assert site.raw("/counter").set_cookies == []


@pytest.fixture
def formed(adapter: str, sites: Sites) -> Site:
    return sites(adapter, SpyStorage, extractor=FORMED).reset()


def test_the_session_and_the_handler_read_one_form(formed: Site) -> None:
    sid = formed.make({"n": 7})
    for kind, body in ((URLENCODED, f"sid={sid}&name=ada".encode()), (MULTIPART, _multipart(sid=sid, name="ada"))):
        for headers, sent in (([], body), ([("Transfer-Encoding", "chunked")], chunked(body, 10))):
            reply = formed.raw("/form", ("Content-Type", kind), *headers, method="POST", body=sent)
            assert (reply.status, reply.text, reply.set_cookies) == (200, "7 ada", []), (kind, headers)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3_000_000])
def test_the_handler_gets_every_byte_of_an_upload(formed: Site, size: int) -> None:
    body = b"x" * size
    for kind in (URLENCODED, MULTIPART, "application/json"):
        for headers, sent in (([], body), ([("Transfer-Encoding", "chunked")], chunked(body, 60_000))):
            reply = formed.raw("/upload", ("Content-Type", kind), *headers, method="POST", body=sent)
            assert (reply.status, reply.text) == (200, f"None {size}"), (kind, headers)


def test_a_form_is_read_only_up_to_a_bound_and_only_where_it_is_needed(formed: Site) -> None:
    first, second = formed.make({"n": 1}), formed.make({"n": 2})
    large = b"name=" + b"x" * (1 << 20) + f"&sid={first}".encode()
    form = ("Content-Type", URLENCODED)
    assert formed.raw("/upload", form, method="POST", body=large).text == f"None {len(large)}"
    body = f"sid={second}&name=ada".encode()
    assert formed.raw("/form", form, _cookie(first), method="POST", body=body).text == "1 ada"
    assert formed.raw(f"/form?sid={first}", form, method="POST", body=b"name=ada").text == "None ada"


def test_the_path_can_hold_the_id(open_site: OpenSite, adapter: str) -> None:
    after_routing = [] if adapter == "asgi" else [from_param("id")]
    for extractor in (from_param("id", path="/share/{id}"), *after_routing):
        site = open_site(extractor=extractor)
        reply = site.raw(f"/share/{site.make({'n': 1})}")
        assert (reply.text, reply.set_cookies, reply.one("vary")) == ('{"n":1}', [], None)
        assert site.raw(f"/share/{UNKNOWN}").text == "{}"
        assert site.raw("/share/..%2f..%2fetc").status in {200, 404}
        assert site.raw("/read").text == "{}"
