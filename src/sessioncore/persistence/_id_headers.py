"""The headers that tell a client the ID of its session, or that it has none any more."""

from typing import Protocol

from sessioncore._config import SessionConfig, cookie_settings
from sessioncore._warnings import Warnings
from sessioncore.http._cookies import CookieWriter, clear_former_cookies
from sessioncore.http._extractors import COOKIE, HEADER, Source, keys_of
from sessioncore.http._shared_cookies import SHARED, note_issued, note_written
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._lifecycle import ENDED
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState

__all__ = ["IDHeaders"]


class Lookup(Protocol):
    """What `LoadSteps` knows about the ID that the client has sent."""

    session_id: str  # empty: it leads to no session

    @property
    def source(self) -> Source: ...
    def has_clearable_id(self) -> bool: ...
    def has_two_cookies(self) -> bool: ...


class IDHeaders:
    """The cookies and headers of one store in which IDs are sent, and when they are."""

    __slots__ = (
        "_clock", "_lifetimes", "_session_only", "_warnings", "cookie_names", "cookies", "former_cookies", "names",
        "secure",
    )  # fmt: skip

    def __init__(self, config: SessionConfig, lifetimes: Lifetimes, warnings: Warnings) -> None:
        settings, extractor = cookie_settings(config), config.extractor
        self._clock = config.clock
        self._lifetimes = lifetimes
        self._warnings = warnings
        self._session_only = config.cookie_session_only
        self.cookies = tuple(CookieWriter.build(name, settings) for name in keys_of(extractor, COOKIE))
        self.cookie_names = frozenset(cookie.name for cookie in self.cookies)
        note_written(self.cookie_names)
        self.former_cookies = clear_former_cookies(
            [cookie.name for cookie in self.cookies], config.former_cookies, settings
        )
        self.names = tuple(dict.fromkeys(name.lower() for name in keys_of(extractor, HEADER)))
        self.secure = config.cookie_secure and bool(self.cookies)

    def with_session(
        self, loaded: Loaded, lookup: Lookup | None, only_new: bool, cookies: bool
    ) -> list[tuple[str, str]] | None:
        """Return the headers that send the ID of a stored session; None: the client needs none.

        `lookup` is None if the client has sent no ID. `only_new`: do not send a cookie again just
        because it expires at another time. `cookies`: the response may set cookies.

        A persistent cookie expires at the absolute deadline, so that reads need not send it again.
        Without a deadline it expires after the idle timeout.
        """
        new = True  # the client does not have the ID, so ID headers are needed, too
        if lookup is not None and loaded.session_id == lookup.session_id:
            if only_new or not self._must_resend_cookie(loaded) or lookup.source is not COOKIE:
                return None
            new = False
        seconds = None
        if self._is_persistent(loaded):
            seconds = self._lifetimes.cookie_seconds(loaded.record, self._clock())
        if SHARED and new and cookies and self.cookies:
            note_issued(loaded.handle, self._warnings)
        headers = [*self.former_cookies] if cookies else []
        # No comprehensions: they would slow down each call on Python 3.11.
        for cookie in self.cookies if cookies else ():
            headers.append(("set-cookie", cookie.set(loaded.session_id, seconds)))  # noqa: PERF401
        for name in self.names if new else ():
            headers.append((name, loaded.session_id))  # noqa: PERF401
        return headers

    def without_session(
        self, state: SessionState, lookup: Lookup, accessed: bool, cookies: bool
    ) -> list[tuple[str, str]] | None:
        """Return the headers that delete what the client has sent; None: there is nothing to delete."""
        former = self.former_cookies if cookies else []
        if state.phase is ENDED and lookup.has_clearable_id():
            cleared = [("set-cookie", cookie.clear()) for cookie in self.cookies] if cookies else []
            return [*former, *cleared, *((name, "") for name in self.names)]
        return [*former] if cookies and accessed and lookup.has_two_cookies() else None

    def _must_resend_cookie(self, loaded: Loaded) -> bool:
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
