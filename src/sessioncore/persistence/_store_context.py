"""What follows from one store's configuration, computed once."""

from sessioncore._config import SessionConfig, id_generator, listeners, stale_id_window
from sessioncore._events import Events
from sessioncore._storage_capabilities import KeepsTombstones
from sessioncore._storage_protocol import capabilities_of
from sessioncore._warnings import Warnings
from sessioncore.codec._codec import Codec
from sessioncore.http._cross_site import CrossSiteRule, RefusedOrigins, parse_trusted_origins
from sessioncore.http._extractors import Carrier, carrier_of, flatten, vary_names
from sessioncore.persistence._health import Health
from sessioncore.persistence._id_headers import IDHeaders
from sessioncore.session._deadlines import Lifetimes

__all__ = ["StoreContext"]


class StoreContext:
    """The configuration of one store, and everything that follows from it and does not change."""

    __slots__ = (
        "codec", "config", "cross_site", "events", "extractors", "extractors_without_cookies", "health", "id_headers",
        "lifetimes", "new_id", "refused_origins", "renew_on_load", "skip", "tombstone", "vary", "warnings",
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
        # How long a tombstone lasts, in seconds; 0: the storage keeps none, or none is wanted.
        self.tombstone = stale_id_window(config) if KeepsTombstones in capabilities_of(config.storage) else 0.0
        self.extractors = tuple(flatten(config.extractor))
        self.extractors_without_cookies = tuple(
            part for part in self.extractors if carrier_of(part) is not Carrier.COOKIE
        )
        self.vary = ", ".join(vary_names(config.extractor)).encode()
        self.id_headers = IDHeaders(config, lifetimes, self.warnings)
        # None: nothing has to be judged, because no other site can send an ID, or because that is allowed.
        self.cross_site: CrossSiteRule | None = None
        if config.cross_site != "allow" and any(carrier_of(part) is not Carrier.HEADER for part in self.extractors):
            trusted = parse_trusted_origins(config.trusted_origins)
            self.cross_site = CrossSiteRule(trusted, lax=config.cookie_same_site != "none")
        self.refused_origins = RefusedOrigins()
