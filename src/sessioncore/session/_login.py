"""login(): the session gets an owner and a new ID; what another owner has put into it is removed."""

from msgspec import Raw

from sessioncore.session._effective import owner_of
from sessioncore.session._state import SessionState

__all__ = ["log_in"]


def log_in(state: SessionState, new_id: str, owner: str, details: Raw) -> None:
    """Note in the journal that `owner` logs in: the commit moves the record to the new ID.

    Raises:
        ResponseStarted: the new ID could not reach the client any more.
    """
    former = owner_of(state)
    pending = state.begin_rotation(new_id)
    pending.change_metadata(
        login=owner,
        login_after=None if state.loaded is None else state.loaded.record.owner,
        owner=owner,
        details=details,
        settings=state.settings,
    )
    if former not in (None, owner):
        pending.change_metadata(cleared=True)
        pending.changes.clear()
        state.values.replace_all({})
