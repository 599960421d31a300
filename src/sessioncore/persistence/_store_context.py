"""What follows from one store's configuration, computed once: extractors, timeouts, and ID headers."""

from sessioncore._config import SessionConfig, cookie_settings, id_generator, listeners, stale_id_window
from sessioncore._events import Events
from sessioncore._storage_capabilities import KeepsTombstones
from sessioncore._storage_protocol import capabilities_of
from sessioncore._warnings import Warnings
from sessioncore.codec._codec import Codec
from sessioncore.http._cookies import CookieWriter, clear_former_cookies
from sessioncore.http._cross_site import CrossSiteRule, RefusedOrigins, parse_trusted_origins
from sessioncore.http._extractors import Carrier, Source, carrier_of, flatten, vary_names
from sessioncore.persistence._health import Health
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._loaded import Loaded

__all__ = ["StoreContext"]


class StoreContext:
    """The configuration of one store, and everything that follows from it and does not change."""

    __slots__ = (
        "codec", "config", "cookie_names", "cookies", "cross_site", "events", "extractors",
        "extractors_without_cookies", "former_cookies", "headers", "health", "lifetimes", "new_id", "refused_origins",
        "renew_on_load", "secure_cookies", "skip", "tombstone", "vary", "warnings",
    )  # fmt: skip

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.codec = Codec(flatten=config.builtin_subclasses == "flatten")
        self.events = Events(listeners(config), config.clock)
        self.warnings = Warnings()
        self.health = Health(config.storage_timeout.total_seconds())
        self.skip = config.skip
        self.new_id = id_generator(config)
        self.lifetimes = lifetimes = Lifetimes.of(config)
        # With a touch_interval of zero, each load renews the idle clock; otherwise a commit does when it is due.
        self.renew_on_load = lifetimes.idle if lifetimes.touch == 0.0 else None
        # For so many seconds a replaced ID still leads to the end of its session; 0: it is unknown at once.
        self.tombstone = stale_id_window(config) if KeepsTombstones in capabilities_of(config.storage) else 0.0
        self.extractors = tuple(flatten(config.extractor))
        self.extractors_without_cookies = tuple(
            part for part in self.extractors if carrier_of(part) is not Carrier.COOKIE
        )
        self.vary = ", ".join(vary_names(config.extractor)).encode()
        settings = cookie_settings(config)
        keys_by_source = {
            source: dict.fromkeys(p.key for p in self.extractors if p.source is source) for source in Source
        }
        self.cookies = tuple(CookieWriter.build(name, settings) for name in keys_by_source[Source.COOKIE])
        self.cookie_names = frozenset(cookie.name for cookie in self.cookies)
        self.former_cookies = clear_former_cookies(
            [cookie.name for cookie in self.cookies], config.former_cookies, settings
        )
        self.headers = tuple(dict.fromkeys(name.lower() for name in keys_by_source[Source.HEADER]))
        # None: nothing has to be judged, because no other site can send an ID, or because that is allowed.
        self.cross_site: CrossSiteRule | None = None
        if config.cross_site != "allow" and any(carrier_of(part) is not Carrier.HEADER for part in self.extractors):
            trusted = parse_trusted_origins(config.trusted_origins)
            self.cross_site = CrossSiteRule(trusted, lax=config.cookie_same_site != "none")
        self.refused_origins = RefusedOrigins()
        self.secure_cookies = config.cookie_secure and bool(self.cookies)

    def renewed_ttl(self, loaded: Loaded, now: float) -> float:
        """Return the seconds that a session has left when its idle clock is renewed."""
        record = loaded.record
        return self.lifetimes.time_left(record.created_at, record.idle, record.absolute, now)

    def is_renewal_due(self, loaded: Loaded) -> bool:
        """Return whether the idle clock of a session that was loaded some time ago must be renewed."""
        now = self.config.clock()
        ttl = loaded.ttl - (now - loaded.as_of)
        return self.lifetimes.is_due(self.renewed_ttl(loaded, now), loaded.record.idle, ttl)

    def must_resend_cookie(self, loaded: Loaded) -> bool:
        """Return whether a client with the ID in a cookie needs the cookie again, because it expires at another time.

        Without an absolute deadline, that is the case whenever the idle clock is renewed.
        """
        if loaded.cookie_changed:
            return True
        if self.lifetimes.absolute is not None or not loaded.renewed:
            return False
        return loaded.record.absolute is None and self._is_persistent(loaded)

    def _is_persistent(self, loaded: Loaded) -> bool:
        """Return whether the browser keeps the cookie when it closes."""
        own = loaded.record.persistent
        return not self.config.cookie_session_only if own is None else own

    def id_headers(self, loaded: Loaded, *, new: bool, cookies: bool) -> list[tuple[str, str]]:
        """Return the headers that send the ID to the client; `new`: it does not have the ID, so use ID headers, too.

        `cookies`: the response may set cookies.

        A persistent cookie expires at the absolute deadline, so that reads need not send it again.
        Without a deadline it expires after the idle timeout.
        """
        seconds = None
        if self._is_persistent(loaded):
            seconds = self.lifetimes.cookie_seconds(loaded.record, self.config.clock())
        headers = [*self.former_cookies] if cookies else []
        for cookie in self.cookies if cookies else ():
            headers.append(("set-cookie", cookie.set(loaded.session_id, seconds)))  # noqa: PERF401 - slower
        if new and self.headers:
            headers += [(name, loaded.session_id) for name in self.headers]
        return headers

    def clearing_headers(self, *, cookies: bool) -> list[tuple[str, str]]:
        """Return the headers that delete the ID in the client; `cookies`: the response may delete cookies."""
        cleared = [("set-cookie", cookie.clear()) for cookie in self.cookies]
        return (self.former_cookies + cleared if cookies else []) + [(name, "") for name in self.headers]
