"""mutate(): changes a value by a function, which is applied again if another request changed the value."""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from sessioncore.session._pending import SET, Change, Update
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
    if _was_changed_in_place(state, name, before):
        before = SET  # the function sees that change, which would be lost if it were applied alone
    existed = name in values.items
    value = values.apply(name, function, encoded, unchanged=before is None)
    if not existed:
        pending.change_order()
    values.items[name] = value
    if isinstance(before, Update):
        before.functions.append(function)
        before.result = values.result(name)
    else:
        pending.changes[name] = Update([function], encoded, True, values.result(name)) if before is None else SET
    return value


def _was_changed_in_place(state: SessionState, name: str, before: Change | None) -> bool:
    """Return whether a value was changed in place since this request mutated, sent, stored or read it."""
    values, in_flight = state.values, state.in_flight
    if isinstance(before, Update):
        return values.differs_from(name, before.result)
    if before is not None:
        return False
    if in_flight is not None and name in in_flight.delta.puts:
        return values.differs_from(name, in_flight.delta.puts[name])
    return values.differs_from_snapshot(name)
