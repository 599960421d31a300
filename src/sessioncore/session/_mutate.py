"""mutate(): changes a value by a function, which is applied again if another request changed the value."""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from sessioncore.session._pending import SET, Update
from sessioncore.session._state import SessionState

__all__ = ["mutate"]


def mutate(state: SessionState, name: str, function: Callable[[Any], Any], default: Any) -> Any:
    """Apply `function` to a value, and note it in the journal so that it can be applied again after a conflict.

    Raises:
        KeyError: there is neither a value nor a default.
    """
    pending, values = state.begin_write(), state.values
    encoded = None if default is UNSET else values.codec.encode(name, default)
    before = pending.changes.get(name)
    if isinstance(before, Update) and not before.applied:
        values.apply_late(name, before)
    if before is None and values.has_snapshot(name) and values.changed_in_place(name) is not None:
        before = SET  # the function saw a change in place, which would be lost if it were applied alone
    existed = name in values.items
    if existed:
        value = values.read(name)
    elif encoded is not None:
        value = values.codec.decode(name, encoded)
    else:
        raise KeyError(name)
    value = values.apply(name, function, value, unchanged=before is None)
    if not existed:
        pending.change_order()
    values.items[name] = value
    if isinstance(before, Update):
        before.functions.append(function)
    else:
        pending.changes[name] = Update([function], encoded) if before is None else SET
    return value
