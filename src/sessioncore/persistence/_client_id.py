"""What a response tells the client about its ID: a new one, a new end of the cookie, that it has none, or nothing."""

from sessioncore.http._extractors import COOKIE
from sessioncore.http._plain_http import warn_over_plain_http
from sessioncore.http._request_view import RequestView
from sessioncore.persistence._load_steps import LoadSteps
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._lifecycle import ENDED
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState

__all__ = ["is_new", "tell_id", "tell_no_id"]


def is_new(loaded: Loaded, lookup: LoadSteps | None) -> bool:
    """Return whether the request did not come with the ID of this session; `lookup` is None if it came with none."""
    return lookup is None or loaded.session_id != lookup.session_id


def tell_id(
    context: StoreContext, lookup: LoadSteps | None, loaded: Loaded, view: RequestView | None, cookies: bool
) -> list[tuple[str, str]]:
    """Return the headers with the ID of the stored session; none if the client knows all that they say.

    `lookup`: what the request came with. `view`: None after the request. `cookies`: the response may set cookies.
    """
    headers, new = context.id_headers, is_new(loaded, lookup)
    if lookup is not None and not new and not (headers.must_resend_cookie(loaded) and lookup.source is COOKIE):
        return []
    if view is not None and cookies and headers.secure:
        warn_over_plain_http(view, context.warnings)
    return headers.sending(loaded, new=new, cookies=cookies)


def tell_no_id(
    context: StoreContext, lookup: LoadSteps | None, state: SessionState, accessed: bool, cookies: bool
) -> list[tuple[str, str]]:
    """Return the headers that delete what the client has sent, if that leads to no session any more."""
    headers = context.id_headers
    if lookup is None:
        return []
    if state.phase is ENDED and lookup.has_clearable_id():
        return headers.clearing(cookies=cookies)
    if cookies and accessed and lookup.has_two_cookies():
        return [*headers.former_cookies]
    return []
