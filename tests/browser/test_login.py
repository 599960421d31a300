"""Login while other requests of the same browser are under way."""

from typing import ClassVar, Final

import pytest
from playwright.sync_api import Page
from tests.adapters.browser import until
from tests.adapters.conftest import Sites
from tests.browser.kit import ids, text, url
from tests.stores import SpyStorage

from sessioncore import RequestView
from sessioncore.storage import KeepsTombstones


class TombstoneStorage(SpyStorage):
    """A storage that keeps tombstones, like those for production."""

    capabilities: ClassVar[frozenset[type]] = SpyStorage.capabilities | {KeepsTombstones}


# The calls that are held until the login is over, and the late requests that make them.
LATE: Final = {"load": ("/read", "/counter", "/mutate", "/regenerate"), "replace": ("/counter", "/mutate", "/set?v=1")}


@pytest.mark.proves("P4")
@pytest.mark.parametrize(
    ("held", "storage", "owner"),
    [("load", TombstoneStorage, "ada"), ("replace", TombstoneStorage, "ada"), ("load", SpyStorage, None)],
    ids=["late-loads", "late-writes", "no-tombstones"],
)
def test_requests_that_are_late_do_not_undo_a_login(
    page: Page, adapter: str, sites: Sites, held: str, storage: type[SpyStorage], owner: str | None
) -> None:
    site = sites(adapter, storage, skip=is_icon).reset()

    async def hold() -> None:
        site.storage.calls.clear()
        site.storage.hold(held, times=len(LATE[held]))

    async def release() -> None:
        site.storage.restore()

    page.goto(url(site, "/counter"))
    before = ids(page)
    site.server.run(hold)
    page.evaluate("paths => { window.late = paths.map(path => fetch(path)); }", LATE[held])
    until(lambda: site.storage.calls.count(held) >= len(LATE[held]))
    assert page.evaluate("fetch('/login').then(answer => answer.text())") == "welcome"
    after = ids(page)
    assert after != before
    site.server.run(release)
    assert page.evaluate("Promise.all(window.late).then(all => all.map(one => one.status))") == [200] * len(LATE[held])
    page.goto(url(site, "/who"))
    assert (f'"owner":"{owner}"' in text(page)) is (owner is not None)
    assert (ids(page) == after) is (owner is not None)
    if owner is not None:
        page.goto(url(site, "/read"))
        assert (text(page), site.count()) == ('{"n":1}', 1)


def is_icon(request: RequestView) -> bool:
    """Chromium may ask for an icon at any time; its calls must not be among those that are held."""
    return request.path == "/favicon.ico"
