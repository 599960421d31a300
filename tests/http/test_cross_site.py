"""Which requests are cross-site: the table of DESIGN 4.8, beside the cases of Go's net/http CrossOriginProtection."""

import pytest
from tests.cross_site_cases import CASES, Case
from tests.views import PlainView

from sessioncore import ConfigError, SessionConfig
from sessioncore.http._cross_site import CrossSiteRule, parse_trusted_origins

RULE = CrossSiteRule(parse_trusted_origins(["https://pay.example", "capacitor://localhost"]), lax=True)


def view_of(case: Case) -> PlainView:
    return PlainView(headers=[*case.headers], method=case.method, scheme=case.scheme)


def judged(view: PlainView, rule: CrossSiteRule = RULE) -> str:
    found = rule.judge(view)
    return "own" if found is None else "withheld" if found.withheld else "other"


@pytest.mark.proves("P8")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_is_judged_by_what_the_browser_says(case: Case) -> None:
    assert judged(view_of(case)) == case.judged


HOST = ("Host", "example.com")


@pytest.mark.proves("P8")
@pytest.mark.parametrize(
    ("method", "headers", "go_refuses"),
    [
        ("POST", {"Sec-Fetch-Site": "same-origin"}, False),
        ("POST", {"Sec-Fetch-Site": "none"}, False),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, True),
        ("POST", {"Sec-Fetch-Site": "same-site"}, True),
        ("POST", {}, False),
        ("POST", {"Origin": "https://example.com"}, False),
        ("POST", {"Origin": "https://attacker.example"}, True),
        ("POST", {"Origin": "null"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, False),
        ("HEAD", {"Sec-Fetch-Site": "cross-site"}, False),
        ("OPTIONS", {"Sec-Fetch-Site": "cross-site"}, False),
        ("PUT", {"Sec-Fetch-Site": "cross-site"}, True),
    ],
)
def test_the_cases_of_go_are_judged_as_go_judges_them(method: str, headers: dict[str, str], go_refuses: bool) -> None:
    assert (judged(PlainView(headers=[HOST, *headers.items()], method=method)) == "other") == go_refuses


@pytest.mark.parametrize(
    ("method", "headers", "why"),
    [
        ("TRACE", {"Sec-Fetch-Site": "cross-site"}, "TRACE is safe in RFC 9110; no browser sends it"),
        ("QUERY", {"Sec-Fetch-Site": "cross-site"}, "QUERY is safe by definition, and needs a preflight"),
        ("GET", {"Upgrade": "websocket", "Origin": "https://attacker.example"}, "Go leaves handshakes to others"),
        ("POST", {"Sec-Fetch-Site": ""}, "a field that is there and says nothing is not a browser's"),
        ("POST", {"Origin": ""}, "the same"),
        ("POST", {"Origin": "https://example.com:443"}, "Go compares text, we fill in the origin's default port"),
        ("POST", {"Origin": "https://EXAMPLE.com"}, "hosts have no case"),
        ("POST", {"Origin": "example://example.com"}, "only http and https origins can be those of a host"),
        ("POST", {"Origin": "https://example.com/path"}, "an origin has no path (RFC 6454)"),
    ],
)
def test_each_difference_from_go_has_a_reason(method: str, headers: dict[str, str], why: str) -> None:
    go_refuses = method not in {"GET", "HEAD", "OPTIONS"} and not go_allows(headers)
    assert (judged(PlainView(headers=[HOST, *headers.items()], method=method)) == "other") != go_refuses, why


def go_allows(headers: dict[str, str]) -> bool:
    """The decision of Go 1.25, `CrossOriginProtection.Check`, without its exemptions."""
    site = headers.get("Sec-Fetch-Site", "")
    if site:
        return site in {"same-origin", "none"}
    origin = headers.get("Origin", "")
    return not origin or origin.partition("://")[2].partition("/")[0] == HOST[1]


@pytest.mark.parametrize(
    "origin",
    [
        "example.com", "https://", "https://pay.example/", "https://pay.example/path", "https://pay.example?q",
        "https://pay.example#f", "https://*.example", "https://user@pay.example", "null", "file://", "file://host", "",
        "https://pay.example:port", "//pay.example", " https://pay.example", "https://pay.exämple",
    ],
)  # fmt: skip
def test_what_is_no_single_origin_cannot_be_trusted(origin: str) -> None:
    with pytest.raises(ConfigError, match="scheme://host"):
        SessionConfig(trusted_origins=[origin])


def test_trusted_origins_are_a_collection_of_text() -> None:
    for given in ("https://pay.example", b"https://pay.example", None, 7, [b"https://pay.example"]):
        with pytest.raises(ConfigError, match="origin"):
            SessionConfig(trusted_origins=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    accepted = ["https://pay.example", "http://localhost:5173", "capacitor://localhost", "https://[::1]:8443"]
    assert SessionConfig(trusted_origins=accepted).trusted_origins == accepted


@pytest.mark.parametrize(
    ("origin", "site", "expected"),
    [
        ("https://pay.example", "cross-site", "withheld"),
        ("https://pay.example", "same-site", "own"),
        ("https://PAY.example:443", "cross-site", "withheld"),
        ("https://pay.example:8443", "cross-site", "other"),
        ("http://pay.example", "cross-site", "other"),
        ("https://pay.example", None, "withheld"),
        ("https://shop.example", None, "own"),
        ("https://api.shop.example", None, "own"),
        ("https://example", None, "own"),
        ("https://notshop.example", None, "withheld"),
        ("capacitor://localhost", "cross-site", "withheld"),
    ],
)
def test_a_trusted_site_of_another_name_does_not_get_the_cookie_and_one_of_the_same_does(
    origin: str, site: str | None, expected: str
) -> None:
    names = ["https://pay.example", "https://shop.example:9443", "capacitor://localhost"]
    names += ["https://api.shop.example", "https://example", "https://notshop.example"]
    headers = [("Host", "shop.example"), ("Origin", origin)]
    headers += [] if site is None else [("Sec-Fetch-Site", site)]
    view = PlainView(headers=headers, method="POST")
    assert judged(view, CrossSiteRule(parse_trusted_origins(names), lax=True)) == expected
    everywhere = "own" if expected == "withheld" else expected  # with SameSite=None the cookie comes
    assert judged(view, CrossSiteRule(parse_trusted_origins(names), lax=False)) == everywhere
