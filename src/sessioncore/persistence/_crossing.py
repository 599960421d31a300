"""What the session may be used for in a request that another site made; see `http/_cross_site`.

    found by          what is refused
    a header          nothing
    query, form, path what needs a new ID: login, regenerate, a write after reset or destroy
    nothing           every use, if a session cookie came; else every write and method, and reads find nothing

Cookies are ignored, so none of them finds a session, and none is set or cleared. If a trusted site
made the request, and the browser withheld the cookie because of SameSite (`withheld`), the request
may log in. Everything else that it writes is dropped, because otherwise its new cookie would
replace the one that the browser has.
"""

from msgspec import Struct

from sessioncore._errors import CrossSiteRequest
from sessioncore._events import EventKind
from sessioncore._opaque import Opaque
from sessioncore.http._cookies import read_cookie
from sessioncore.http._cross_site import CrossSite, for_log
from sessioncore.http._extractors import Carrier, Extractor, carrier_of
from sessioncore.http._ids import AmbiguousID
from sessioncore.http._request_view import RequestView
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._error_factories import ErrorFactory
from sessioncore.session._initial_states import refused_state, withheld_state
from sessioncore.session._lifecycle import FRESH, WITHHELD
from sessioncore.session._limits import Limits
from sessioncore.session._state import SessionState

__all__ = ["Crossing", "crossing_of"]


def crossing_of(context: StoreContext, request: CrossSite, view: RequestView) -> "Crossing | None":
    """Return the restrictions of a cross-site request; None: a trusted site made it, and the cookie is there."""
    cookie_came = _has_session_cookie(context, view)
    return None if request.withheld and cookie_came else Crossing(context, request, cookie_came)


def _has_session_cookie(context: StoreContext, view: RequestView) -> bool:
    headers = view.cookie_headers()
    try:
        return any(read_cookie(headers, name.encode("latin-1")) is not None for name in context.id_headers.cookie_names)
    except AmbiguousID:
        return True


class Crossing(Opaque, Struct, eq=False):
    """One cross-site request: what it may read and write. Its first refusal sends an event."""

    context: StoreContext
    request: CrossSite
    cookie_came: bool
    exempt: bool = False  # the ID came in a header, which no other site can send
    named_id: str | None = None  # the ID from a query, form or path that led to a session
    reported: bool = False

    def refusal(self) -> CrossSiteRequest:
        """Make the error of a refused use: an `ErrorFactory`."""
        self.context.refused_origins.log(self.request)
        self._report()
        return CrossSiteRequest(
            "another site made this request, so it cannot use the session of its visitor; if the site is yours, add "
            "its origin to SessionConfig.trusted_origins, and if not, nothing is wrong"
        )

    @property
    def refused(self) -> bool:
        """Whether the application has met the error of a refused use."""
        return self.reported and not self.cookies_allowed

    @property
    def reports_only(self) -> bool:
        """Whether the store refuses nothing, and only sends the event."""
        return self.context.config.cross_site == "report"

    @property
    def cookies_allowed(self) -> bool:
        """Whether the request's cookies are read, and the response may set them."""
        return self.reports_only or self.request.withheld

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """The extractors that may look for an ID."""
        context = self.context
        return context.extractors if self.cookies_allowed else context.extractors_without_cookies

    def without_session(self) -> tuple[SessionState | None, ErrorFactory | None]:
        """Return the state of a request in which no ID leads to a session, and the error of its uses."""
        codec = self.context.codec
        if self.request.withheld:
            return withheld_state(codec), None
        if self.reports_only or not self.context.id_headers.cookies:
            return None, None
        return (None, self.refusal) if self.cookie_came else (refused_state(self.refusal, codec), None)

    def found(self, state: SessionState, extractor: Extractor) -> None:
        """Restrict the session that an extractor's ID has led to."""
        carrier = carrier_of(extractor)
        self.exempt = carrier is Carrier.HEADER
        if carrier is Carrier.URL_OR_FORM:
            self.named_id = state.known_id
            if not self.cookies_allowed:
                state.limit(Limits(new_id=self.refusal))

    def report_dropped(self, state: SessionState | None, accessed: bool) -> None:
        """Send the event if something was dropped, or would have been refused if the store did not only report."""
        if self.request.withheld:
            unwanted = state is not None and state.phase is WITHHELD and state.pending is not None
        elif self.exempt or not self.reports_only:
            return
        elif self.named_id is not None:
            unwanted = state is not None and state.loaded is not None and state.loaded.session_id != self.named_id
        else:
            written = state is not None and (state.phase is not FRESH or state.pending is not None)
            unwanted = accessed if self.cookie_came else written
        if unwanted:
            self._report()

    def _report(self) -> None:
        if self.reported:
            return
        self.reported = True
        request = self.request
        source = f"from {request.origin}" if request.origin else "without an Origin"
        self.context.events.send(EventKind.CROSS_SITE, detail=for_log(f"{request.method} {source}"))
