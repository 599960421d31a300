"""For authors of adapters: what to check at setup and per request, and what the methods of an exchange return.

`DONE` is what `load`, `save_late` and `finish` return if nothing must be awaited, and `UNCHANGED` what
`commit` returns if the response needs no `revise` either. Awaiting them is correct as well;
comparing with them is faster.

`docs/adapters/custom.md` lists what an adapter must do.
"""

from sessioncore._error_responses import ErrorResponse, close_code, close_reason, says_ended
from sessioncore._exchange import UNCHANGED
from sessioncore._extras import needs_extra
from sessioncore._opaque import Opaque
from sessioncore._warnings import Warnings
from sessioncore.http._cross_site import asks_for_websocket
from sessioncore.http._extractors import flatten
from sessioncore.integration._checks import (
    check_beside,
    check_cookie,
    check_scope_key,
    check_store,
    check_vacant,
    has_finished,
    warn_if_replaced,
)
from sessioncore.integration._connections import close_for_error, has_replaced_id, log_late_failure, watch_connection
from sessioncore.persistence._driver import DONE
from sessioncore.session._protocols import Watch

__all__ = [
    "DONE", "UNCHANGED", "ErrorResponse", "Opaque", "Warnings", "Watch", "asks_for_websocket", "check_beside",
    "check_cookie", "check_scope_key", "check_store", "check_vacant", "close_code", "close_for_error", "close_reason",
    "flatten", "has_finished", "has_replaced_id", "log_late_failure", "needs_extra", "says_ended", "warn_if_replaced",
    "watch_connection",
]  # fmt: skip
