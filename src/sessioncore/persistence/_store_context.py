"""What does not change from request to request: computed once for each store."""

from sessioncore._config import SessionConfig, cookie_settings
from sessioncore._events import Events
from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record
from sessioncore.http._cookies import CookieWriter
from sessioncore.http._extractors import Source, places, vary_names
from sessioncore.http._plain_http import PlainHttpWarning
from sessioncore.session._deadlines import Lifetimes

__all__ = ["StoreContext"]


class StoreContext:
    """The configuration of one store, and what follows from it for every request and response."""

    __slots__ = (
        "codec", "config", "cookie_follows_idle", "cookie_names", "cookies", "events", "extractors", "headers",
        "lifetimes", "plain_http", "renew", "skip", "vary",
    )  # fmt: skip

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.codec = Codec()
        self.events = Events(config.on_event, config.clock)
        self.skip = config.skip
        self.lifetimes = lifetimes = Lifetimes.of(config)
        # Only a touch_interval of zero renews the idle clock with each load; else the commit does it, once it is due.
        self.renew = lifetimes.idle if lifetimes.touch == 0.0 else None
        self.extractors = tuple(places(config.extractor))
        self.vary = tuple(dict.fromkeys(name for place in self.extractors for name in vary_names(place)))
        settings = cookie_settings(config)
        sinks = {source: dict.fromkeys(p.key for p in self.extractors if p.source is source) for source in Source}
        self.cookies = tuple(CookieWriter.build(name, settings) for name in sinks[Source.COOKIE])
        self.cookie_names = frozenset(cookie.name for cookie in self.cookies)
        self.headers = tuple(name.lower() for name in sinks[Source.HEADER])
        self.plain_http = PlainHttpWarning(secure=config.cookie_secure and bool(self.cookies))
        # Without an absolute deadline the cookie is sent again whenever the idle clock is renewed.
        self.cookie_follows_idle = config.absolute_timeout is None and not config.cookie_session_only

    def cookie_seconds(self, record: Record) -> float:
        """Seconds to the absolute deadline, so that reads need no new cookie; without one, the idle timeout."""
        lifetimes = self.lifetimes
        if lifetimes.absolute is None:
            return lifetimes.idle if record.idle is None else record.idle
        return record.created_at + lifetimes.absolute - self.config.clock()
