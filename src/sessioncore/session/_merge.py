"""After a conflict: what the session shows from then on. Which value is stored is decided in `_delta`."""

from msgspec import Raw

from sessioncore.session._attempt import Attempt
from sessioncore.session._pending import DROP, SET, Pending, Update
from sessioncore.session._values import Values

__all__ = ["take_merged"]


def take_merged(values: Values, pending: Pending | None, attempt: Attempt) -> dict[str, Raw]:
    """After a commit that merged: update the session's values to what is now stored.

    Values of other requests replace the ones that were read. Values that this request set stay
    the same objects, and changes made during the commit, in place or in `pending`, stay on top.
    Returns the stored entries whose values this request keeps.
    """
    data, mine = attempt.record.data, values.items
    own = {name: raw for name, raw in data.items() if name in mine and _is_kept(values, attempt, name)}
    later = {} if pending is None else pending.changes
    for name, change in later.items():
        if isinstance(change, Update) and change.applied and values.differs_from(name, change.result):
            later[name] = SET
    if pending is not None and pending.metadata.cleared:
        data = {}  # another owner has logged in meanwhile, and must not see the former owner's values
    items = {
        name: mine[name] if name in own and name not in later else raw
        for name, raw in data.items()
        if later.get(name) is not DROP
    }
    values.rebase(items)
    for name, change in list(later.items()):
        if change is SET:
            items[name] = mine[name]
        elif isinstance(change, Update):
            base = data.get(name, change.default)
            if base is None:  # the other request deleted the key: act as if it had done so after this update
                del later[name]
            else:
                try:
                    items[name] = change.apply_to(values.codec.decode(name, base))
                    change.result = values.result(name)
                except Exception:  # noqa: BLE001 - this commit has stored its record; the next one raises the error
                    change.applied = False
    return own


def _is_kept(values: Values, attempt: Attempt, name: str) -> bool:
    """Return whether the session goes on showing the value that this request has under `name`."""
    sent = attempt.delta.puts.get(name)
    if sent is None:
        known = (values.snapshots or {}).get(name)
        return known == attempt.record.data[name] or values.differs_from_snapshot(name)
    if isinstance(attempt.delta.changes.get(name), Update):  # what is stored was made of another request's value
        return values.differs_from(name, sent)
    return True
