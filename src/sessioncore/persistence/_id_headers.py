"""The headers that tell a client the ID of its session, or that it has none any more."""

from collections.abc import Iterable

from sessioncore._config import SessionConfig, cookie_settings
from sessioncore._warnings import Warnings
from sessioncore.http._cookies import CookieWriter, clear_former_cookies
from sessioncore.http._extractors import Extractor, Source
from sessioncore.http._shared_cookies import SHARED, note_issued, note_written
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._loaded import Loaded

__all__ = ["IDHeaders"]


class IDHeaders:
    """The cookies and headers of one store in which IDs are sent. `_client_id` decides when."""

    __slots__ = (
        "_clock", "_lifetimes", "_session_only", "_warnings", "cookie_names", "cookies", "former_cookies", "names",
        "secure",
    )  # fmt: skip

    def __init__(
        self, config: SessionConfig, extractors: Iterable[Extractor], lifetimes: Lifetimes, warnings: Warnings
    ) -> None:
        settings = cookie_settings(config)
        keys_by_source = {source: dict.fromkeys(p.key for p in extractors if p.source is source) for source in Source}
        self._clock = config.clock
        self._lifetimes = lifetimes
        self._warnings = warnings
        self._session_only = config.cookie_session_only
        self.cookies = tuple(CookieWriter.build(name, settings) for name in keys_by_source[Source.COOKIE])
        self.cookie_names = frozenset(cookie.name for cookie in self.cookies)
        note_written(self.cookie_names)
        self.former_cookies = clear_former_cookies(
            [cookie.name for cookie in self.cookies], config.former_cookies, settings
        )
        self.names = tuple(dict.fromkeys(name.lower() for name in keys_by_source[Source.HEADER]))
        self.secure = config.cookie_secure and bool(self.cookies)

    def must_resend_cookie(self, loaded: Loaded) -> bool:
        """Return whether a client with the ID in a cookie needs the cookie again, because it expires at another time.

        Without an absolute deadline, that is the case whenever the idle clock is renewed.
        """
        if loaded.cookie_changed:
            return True
        if self._lifetimes.absolute is not None or not loaded.renewed:
            return False
        return loaded.record.absolute is None and self._is_persistent(loaded)

    def _is_persistent(self, loaded: Loaded) -> bool:
        """Return whether the browser keeps the cookie when it closes."""
        own = loaded.record.persistent
        return not self._session_only if own is None else own

    def sending(self, loaded: Loaded, *, new: bool, cookies: bool) -> list[tuple[str, str]]:
        """Return the headers that send the ID to the client; `new`: it does not have the ID, so use ID headers, too.

        `cookies`: the response may set cookies.

        A persistent cookie expires at the absolute deadline, so that reads need not send it again.
        Without a deadline it expires after the idle timeout.
        """
        seconds = None
        if self._is_persistent(loaded):
            seconds = self._lifetimes.cookie_seconds(loaded.record, self._clock())
        if SHARED and new and cookies and self.cookies:
            note_issued(loaded.handle, self._warnings)
        headers = [*self.former_cookies] if cookies else []
        for cookie in self.cookies if cookies else ():
            headers.append(("set-cookie", cookie.set(loaded.session_id, seconds)))  # noqa: PERF401 - slower
        if new and self.names:
            headers += [(name, loaded.session_id) for name in self.names]
        return headers

    def clearing(self, *, cookies: bool) -> list[tuple[str, str]]:
        """Return the headers that delete the ID in the client; `cookies`: the response may delete cookies."""
        cleared = [("set-cookie", cookie.clear()) for cookie in self.cookies]
        return (self.former_cookies + cleared if cookies else []) + [(name, "") for name in self.names]
