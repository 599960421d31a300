"""Other origins attack visitors whose cookie goes everywhere (SameSite=None): no attack succeeds.

Each test runs with the protection and without. Without it the same attack must succeed:
that shows that the browser did send the request with the cookie, and what the
protection is worth.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest
from playwright.sync_api import Page
from tests.adapters.conftest import Site, Sites
from tests.adapters.servers import Server
from tests.browser.attacks import ATTACKS, send_form
from tests.browser.kit import HOME, OTHER, SIBLING, ids, text, url
from tests.stores import SpyStorage

ORIGINS: Final = {"another-site": OTHER, "a-sibling-host": SIBLING, "another-port": HOME}
POLICIES: Final = {"refuse": False, "allow": True, "trust": True}  # whether the attack succeeds

Protected = Callable[..., Site]


@pytest.fixture
def protected(adapter: str, sites: Sites, elsewhere: Server) -> Protected:
    """The application under one policy."""
    settings: dict[str, dict[str, Any]] = {
        "refuse": {},
        "allow": {"cross_site": "allow"},
        "trust": {"trusted_origins": tuple(url(elsewhere, "", host) for host in ORIGINS.values())},
    }

    def of(policy: str, same_site: str) -> Site:
        return sites(adapter, SpyStorage, cookie_same_site=same_site, **settings[policy]).reset()

    return of


def give_session(page: Page, site: Site) -> str:
    """Give the browser a session as a login would."""
    sid = site.make({"n": 1}, owner="ada")
    cookie: Any = {"name": "__Host-session_id", "value": sid, "url": url(site), "secure": True, "httpOnly": True}
    cookie["sameSite"] = site.store.config.cookie_same_site.title()
    page.context.clear_cookies()
    page.context.add_cookies([cookie])
    return sid


@pytest.mark.proves("P8", "AT-37", "ASVS 3.5.1")
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(("policy", "acts"), POLICIES.items())
def test_another_origin_cannot_use_change_or_end_a_session(
    page: Page, protected: Protected, elsewhere: Server, policy: str, acts: bool, origin: str
) -> None:
    attacker = url(elsewhere, host=ORIGINS[origin])
    for way, attack in ATTACKS.items():
        for how in ("write", "login", "destroy"):
            site = protected(policy, "none")
            sid = give_session(page, site)
            if page.url != attacker:
                page.goto(attacker)
            status = attack(page, url(site, f"/status?how={how}"))
            assert (status == 403, status < 300) == (not acts, acts), (way, how)
            assert (site.data(sid) != {"n": 1}) is acts, (way, how)
            assert ("cross_site" in site.kinds()) is not acts
            if not acts:
                assert (site.count(), ids(page)) == (1, [sid]), (way, how)


@pytest.mark.proves("P8")
@pytest.mark.parametrize(
    ("origin", "known"),
    [("another-site", False), ("another-site", True), ("a-sibling-host", False), ("another-port", True)],
)
@pytest.mark.parametrize("policy", ["refuse", "allow"])
def test_another_origin_cannot_log_a_visitor_in_as_somebody_else(
    page: Page, protected: Protected, elsewhere: Server, policy: str, origin: str, known: bool
) -> None:
    """SameSite=Lax does not prevent it: the response to a form may set a cookie that the request did not carry."""
    site = protected(policy, "lax")
    before = [give_session(page, site)] if known else []
    page.goto(url(elsewhere, host=ORIGINS[origin]))
    send_form(page, url(site, "/login?owner=eve"))
    assert (ids(page) == before) is (policy == "refuse")
    page.goto(url(site, "/who"))
    assert ('"owner":"eve"' in text(page)) is (policy == "allow")
