"""Notices that two stores of this process overwrite each other's cookie, as in two applications mounted side by side.

No request reaches both stores, so this shows only when an ID that one has issued comes to the other.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from sessioncore._warnings import Warnings

__all__ = ["SHARED", "note_issued", "note_written", "warn_if_anothers"]

_MOST: Final = 1000
_MESSAGE: Final = (
    "the cookie %r came with an ID that another SessionStore of this process has issued: a browser keeps one value of "
    "a cookie, so each store loses its sessions to the other. Use one store for both, or give one of them another "
    "cookie: SessionConfig(extractor=from_cookie(...), key_prefix=...)"
)
_written: Final = dict[str, object]()  # the first store that writes each cookie
SHARED: Final = set[str]()  # the cookies that more than one store writes
_issuers: Final = dict[str, Warnings]()  # of the last IDs, by handle; the warnings stand for their store


def note_written(names: AbstractSet[str]) -> None:
    """Note that a store, which is new, writes these cookies."""
    store = object()  # stands for it; `setdefault` is one step, because other threads make stores, too
    SHARED.update(name for name in names if _written.setdefault(name, store) is not store)


def note_issued(handle: str, warnings: Warnings) -> None:
    """Note that a store sends this ID to a client in a cookie; needed only if there are SHARED ones."""
    if len(_issuers) >= _MOST:
        _issuers.clear()
    _issuers[handle] = warnings


def warn_if_anothers(handle: str, cookie: str, warnings: Warnings) -> None:
    """Warn about an ID that a store does not know, if another store has issued it."""
    if _issuers.get(handle, warnings) is not warnings:
        warnings.warn(_MESSAGE, cookie)
