"""After a conflict: what the session shows from then on. Which value is stored is decided in `_delta`."""

from msgspec import Raw

from sessioncore.session._attempt import Attempt
from sessioncore.session._pending import DROP, SET, Pending, Update
from sessioncore.session._values import Values

__all__ = ["take_merged"]


def take_merged(values: Values, pending: Pending | None, attempt: Attempt) -> dict[str, Raw]:
    """After a commit that merged: update the session's values to what is now stored.

    Values of other requests replace the ones that were read. Values that this request set stay
    the same objects, and changes made during the commit (`pending`) stay on top. Returns the
    stored entries whose values this request already had.
    """
    data, mine, snapshots = attempt.record.data, values.items, values.snapshots or {}
    changes = attempt.delta.changes
    puts = {name for name in attempt.delta.puts if not isinstance(changes.get(name), Update)}
    own = {name: raw for name, raw in data.items() if name in mine and (name in puts or snapshots.get(name) == raw)}
    later = {} if pending is None else pending.changes
    if pending is not None and pending.metadata.cleared:
        data = {}  # another owner has logged in meanwhile, who must not see the former owner's values
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
            raw = data.get(name, change.default)
            if raw is None:  # the other request deleted the key: act as if it had done so after this update
                del later[name]
            else:
                try:
                    items[name] = change.apply_to(values.codec.decode(name, raw))
                except Exception:  # noqa: BLE001 - this commit has stored its record; the next one raises the error
                    change.applied = False
    return own
