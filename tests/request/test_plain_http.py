"""The warning about a Secure cookie that goes out over plain http."""

import logging
import re
from typing import Any

import pytest
from tests.kit import Lab, Work, read, serve, write
from tests.views import PlainView

from sessioncore import from_cookie, from_header

pytestmark = pytest.mark.anyio


async def warnings(caplog: pytest.LogCaptureFixture, *views: PlainView, work: Work = write, **config: Any) -> list[str]:
    """The warnings of a store that serves these requests."""
    caplog.clear()
    lab = Lab(**config)
    for view in views:
        await serve(lab.store, view, work)
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def plain(host: str | None = "shop.example", scheme: str = "http", *more: tuple[str, str]) -> PlainView:
    return PlainView(headers=[*([("host", host)] if host else []), *more], scheme=scheme)


@pytest.mark.proves("AT-96")
async def test_a_secure_cookie_over_plain_http_is_warned_of_once_and_forwarded_headers_are_not_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [text] = await warnings(caplog, plain(), plain(), plain(scheme="ws"))
    assert re.search(r"TLS .*development\(\)", text)
    for host in (None, "localhost.evil.example", "10.0.0.1:80", "127.0.0.1:8000", "[::1]"):
        assert len(await warnings(caplog, plain(host))) == 1
    safari = "Mozilla/5.0 (Macintosh; ...) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15"
    chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
    for agent, times in ((safari, 1), (chrome, 0), ("curl/8", 0)):
        assert len(await warnings(caplog, plain("localhost:8000", "http", ("user-agent", agent)))) == times
    forwarded = [("X-Forwarded-Proto", "https"), ("Forwarded", "proto=https")]
    assert len(await warnings(caplog, plain("shop.example", "http", *forwarded))) == 1


async def test_no_warning_over_tls_on_this_machine_or_without_a_secure_cookie(caplog: pytest.LogCaptureFixture) -> None:
    local = ["localhost", "localhost:8000", "LOCALHOST:80"]
    assert await warnings(caplog, *map(plain, local), plain(scheme="https"), plain(scheme="wss")) == []
    assert await warnings(caplog, plain(), work=read) == []
    assert await warnings(caplog, plain(), extractor=from_header("X-Sid")) == []
    assert await warnings(caplog, plain(), extractor=from_cookie("sid"), cookie_secure=False) == []
