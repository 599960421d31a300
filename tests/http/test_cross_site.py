"""Which requests are cross-site: the table of `_cross_site.py`, and the cases of Go's CrossOriginProtection."""

import pytest
from tests.cross_site_cases import CASES, Case
from tests.views import PlainView

from sessioncore import ConfigError, SessionConfig
from sessioncore.http._cross_site import CrossSiteRule, parse_trusted_origins

RULE = CrossSiteRule(parse_trusted_origins(["https://pay.example", "capacitor://localhost"]), lax=True)


def judged(view: PlainView, rule: CrossSiteRule = RULE) -> str:
    found = rule.judge(view)
    return "own" if found is None else "withheld" if found.withheld else "other"


@pytest.mark.proves("P8")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_is_judged_by_what_the_browser_says(case: Case) -> None:
    assert judged(PlainView(headers=[*case.headers], method=case.method, scheme=case.scheme)) == case.judged


HOST, SITE, ORIGIN = ("Host", "example.com"), "Sec-Fetch-Site", "Origin"
OF_GO: list[tuple[str, dict[str, str], bool]] = [
    ("POST", {SITE: "same-origin"}, False), ("POST", {SITE: "none"}, False), ("POST", {SITE: "cross-site"}, True),
    ("POST", {SITE: "same-site"}, True), ("POST", {}, False), ("POST", {ORIGIN: "https://example.com"}, False),
    ("POST", {ORIGIN: "https://attacker.example"}, True), ("POST", {ORIGIN: "null"}, True),
    ("GET", {SITE: "cross-site"}, False), ("HEAD", {SITE: "cross-site"}, False),
    ("OPTIONS", {SITE: "cross-site"}, False), ("PUT", {SITE: "cross-site"}, True),
]  # fmt: skip
NOT_OF_GO: list[tuple[str, dict[str, str], str]] = [
    ("TRACE", {SITE: "cross-site"}, "TRACE is safe in RFC 9110; no browser sends it"),
    ("QUERY", {SITE: "cross-site"}, "QUERY is safe by definition, and needs a preflight"),
    ("GET", {"Upgrade": "websocket", ORIGIN: "https://attacker.example"}, "Go leaves handshakes to others"),
    ("POST", {SITE: ""}, "a field that is there and says nothing is not a browser's"),
    ("POST", {ORIGIN: ""}, "the same"),
    ("POST", {ORIGIN: "https://example.com:443"}, "Go compares text, we fill in the origin's default port"),
    ("POST", {ORIGIN: "https://EXAMPLE.com"}, "hosts have no case"),
    ("POST", {ORIGIN: "example://example.com"}, "only http and https origins can be those of a host"),
    ("POST", {ORIGIN: "https://example.com/path"}, "an origin has no path (RFC 6454)"),
]


def refuses(method: str, headers: dict[str, str]) -> bool:
    return judged(PlainView(headers=[HOST, *headers.items()], method=method)) == "other"


@pytest.mark.proves("P8")
def test_the_cases_of_go_are_judged_as_go_judges_them_and_each_difference_has_a_reason() -> None:
    for method, headers, go_refuses in OF_GO:
        assert refuses(method, headers) == go_refuses, (method, headers)
    for method, headers, why in NOT_OF_GO:
        go_refuses = method not in {"GET", "HEAD", "OPTIONS"} and not go_allows(headers)
        assert refuses(method, headers) != go_refuses, why


def go_allows(headers: dict[str, str]) -> bool:
    """The decision of Go 1.25, `CrossOriginProtection.Check`, without its exemptions."""
    site = headers.get(SITE, "")
    if site:
        return site in {"same-origin", "none"}
    origin = headers.get(ORIGIN, "")
    return not origin or origin.partition("://")[2].partition("/")[0] == HOST[1]


@pytest.mark.parametrize(
    "origin",
    [
        "example.com", "https://", "https://pay.example/", "https://pay.example/path", "https://pay.example?q",
        "https://pay.example#f", "https://*.example", "https://user@pay.example", "null", "file://", "file://host", "",
        "https://pay.example:port", "https://pay.example:65536", "https://pay.example:", "//pay.example",
        " https://pay.example", "https://pay.exämple",
    ],
)  # fmt: skip
def test_only_single_origins_can_be_trusted(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"trusted_origins: .*scheme://host"):
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
        ("https://pay.example", "cross-site", "withheld"), ("https://pay.example", "same-site", "own"),
        ("https://PAY.example:443", "cross-site", "withheld"), ("https://pay.example:8443", "cross-site", "other"),
        ("http://pay.example", "cross-site", "other"), ("https://pay.example", None, "withheld"),
        ("https://shop.example", None, "own"), ("https://api.shop.example", None, "own"),
        ("https://example", None, "own"), ("https://notshop.example", None, "withheld"),
        ("capacitor://localhost", "cross-site", "withheld"),
    ],
)  # fmt: skip
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


def test_without_a_host_header_a_trusted_site_is_one_of_another_name() -> None:
    view = PlainView(headers=[("Origin", "https://pay.example")], method="POST")
    assert judged(view, CrossSiteRule(parse_trusted_origins(["https://pay.example"]), lax=True)) == "withheld"
