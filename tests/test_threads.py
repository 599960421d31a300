"""What several threads do with one object at the same time, whatever the moment at which one overtakes the other."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
from tests.threads import overtaken

from sessioncore import StorageUnavailable
from sessioncore._warnings import Warnings
from sessioncore.http._cross_site import MAX_LOGGED_ORIGINS, CrossSite, RefusedOrigins
from sessioncore.persistence._health import Health


def refuse(origins: RefusedOrigins, *names: object) -> None:
    for name in names:
        origins.log(CrossSite("POST", f"https://{name}.example", compared=False, withheld=False))


def fail(health: Health) -> None:
    health.failed(StorageUnavailable("it is away"))
    health.report("a request", StorageUnavailable("it is away"))


@pytest.mark.parametrize(
    "work",
    [
        lambda: partial(Warnings().warn, "w"),
        lambda: partial(refuse, RefusedOrigins(), 1),
        lambda: partial(fail, Health(5.0)),
    ],
    ids=["warning", "origin", "outage"],
)
def test_what_is_logged_once_is_logged_once_in_two_threads(
    work: Callable[[], Callable[[], object]], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in overtaken(lambda: (work(),) * 2, "src/sessioncore"):
        assert len(caplog.messages) == 1
        caplog.clear()


def test_two_threads_do_not_exceed_the_number_of_logged_origins(caplog: pytest.LogCaptureFixture) -> None:
    def begin() -> Sequence[Callable[[], object]]:
        origins = RefusedOrigins()
        refuse(origins, *range(MAX_LOGGED_ORIGINS - 1))
        return partial(refuse, origins, "a", "c"), partial(refuse, origins, "b")

    for _ in overtaken(begin, "_cross_site"):
        assert len(caplog.messages) == MAX_LOGGED_ORIGINS
        assert sum("Further origins" in text for text in caplog.messages) == 1
        caplog.clear()
