"""The values of a session: decoded when they are first read, and compared at the commit to detect changes in place."""

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from sessioncore._errors import CodecError, ConfigError
from sessioncore._opaque import Opaque
from sessioncore.codec._codec import IMMUTABLE, Codec
from sessioncore.session._pending import Update

__all__ = ["Values"]


class Values(Opaque, Struct, eq=False):
    """The keys and values that a session shows as a mapping.

    Invariants: a value in `items` is `Raw` until it is read. `snapshots` has the stored bytes
    of the values that can change in place and that this request has read or stored. A key of
    `issued_defaults` that is also in `items` was set or loaded later, and its default is ignored.
    """

    codec: Codec
    items: dict[str, Any]
    snapshots: dict[str, Raw] | None = None  # None: no value was read that can change in place
    issued_defaults: dict[str, tuple[Any, Raw]] | None = None  # defaults of typed keys, and their bytes; None: none

    def __repr__(self) -> str:
        return f"<Values keys={len(self.items)}>"

    def decode(self, name: str, raw: Raw) -> Any:
        """Decode a value when it is first read."""
        value = self.items[name] = self.codec.decode(name, raw)
        if type(value) not in IMMUTABLE:
            self.keep_snapshot(name, raw)
        return value

    def read(self, name: str) -> Any:
        """Return the value under `name`, which must exist."""
        value = self.items[name]
        return self.decode(name, value) if type(value) is Raw else value

    def keep_snapshot(self, name: str, raw: Raw) -> None:
        """Keep the bytes of a value that can change in place, to compare them at the commit."""
        if self.snapshots is None:
            self.snapshots = {}
        self.snapshots[name] = raw

    def issue_default(self, name: str, factory: Callable[[], Any]) -> Any:
        """Return the default of a typed key, always the same object; it is stored when it is changed in place."""
        if self.issued_defaults is None:
            self.issued_defaults = {}
        if name not in self.issued_defaults:
            value = factory()
            self.issued_defaults[name] = (value, self.codec.encode(name, value))
        return self.issued_defaults[name][0]

    def changed_defaults(self) -> dict[str, Any]:
        """Remove the defaults that were changed in place from `issued_defaults`, and return them."""
        changed: dict[str, Any] = {}
        kept: dict[str, tuple[Any, Raw]] = {}
        for name, (value, raw) in (self.issued_defaults or {}).items():
            if name in self.items:
                continue  # the key was set or loaded after the default was issued
            if self._try_encode(name, value) == raw:
                kept[name] = (value, raw)
            else:
                changed[name] = value
        self.issued_defaults = kept or None
        return changed

    def changed_in_place(self, name: str) -> Raw | None:
        """Return the new bytes of a value in `snapshots` if it was changed in place, else None."""
        assert self.snapshots is not None
        raw = self.snapshots[name]
        encoded = self.codec.encode(name, self.items[name], checked=False)
        if encoded == raw:
            return None
        # If a class has gained a field, old data is encoded differently; that is not a change by this request.
        if encoded == self.codec.encode(name, self.codec.decode(name, raw), checked=False):
            return None
        return self.codec.encode(name, self.items[name]) if self.codec.registry.checked else encoded

    def differs_from_snapshot(self, name: str) -> bool:
        """Return whether a value was changed in place since this request read or stored it."""
        if self.snapshots is None or name not in self.snapshots or name not in self.items:
            return False
        try:
            return self.changed_in_place(name) is not None
        except CodecError:
            return True  # the commit reports it

    def apply(self, name: str, function: Callable[[Any], Any], default: Raw | None, *, unchanged: bool) -> Any:
        """Return the result of `function` for a value; if it changes the value in place and then raises, restore it.

        `default` is for a missing key. `unchanged`: this request has not written the key, so its snapshot still
        equals its value.

        Raises:
            KeyError: there is neither a value nor a default.
            ConfigError: it returned None after a change in place, or a msgspec.Raw.
        """
        exists, kept = name in self.items, default
        if exists:
            value, kept = self.read(name), None
            if type(value) not in IMMUTABLE:
                kept = self.snapshots.get(name) if unchanged and self.snapshots is not None else None
                kept = kept or self._try_encode(name, value)
        elif default is not None:
            value = self.codec.decode(name, default)
        else:
            raise KeyError(name)
        try:
            result = function(value)
            if result is None and value is not None and kept is not None and self._try_encode(name, value) != kept:
                kind = type(value).__name__
                raise ConfigError(
                    f"session key {name!r}: the function given to mutate() changed the {kind} in place and returned "
                    f"None, which would be stored instead: return the {kind}"
                )
        except BaseException:
            if exists and kept is not None and self._try_encode(name, value) != kept:
                # Replace the half-changed value. An unchanged one is kept: the handler may still change it in place.
                self.items[name] = self.codec.decode(name, kept)
            raise
        if type(result) is Raw:  # it would be mistaken for a value that is stored already
            raise ConfigError("msgspec.Raw cannot be stored; return the decoded value from the function")
        return result

    def apply_late(self, name: str, change: Update) -> None:
        """Apply an update that failed after a merge to the value that the session shows."""
        self.items[name] = self.apply(name, change.apply_to, change.default, unchanged=False)
        change.applied, change.result = True, self.result(name)

    def result(self, name: str) -> Raw | None:
        """Return what `Update.result` is to be, after the function was applied to the value under `name`."""
        return None if type(self.items[name]) in IMMUTABLE else self._try_encode(name, self.items[name])

    def differs_from(self, name: str, raw: Raw | None) -> bool:
        """Return whether the value was changed in place since its bytes were `raw`; None: it cannot change in place."""
        return raw is not None and name in self.items and self._try_encode(name, self.items[name]) != raw

    def _try_encode(self, name: str, value: Any) -> Raw | None:
        """Encode a value; return None if it cannot be encoded, which the commit reports."""
        try:
            return self.codec.encode(name, value, checked=False)
        except CodecError:
            return None

    def replace_all(self, items: dict[str, Any]) -> None:
        """Replace all values, and forget snapshots and defaults."""
        self.items = items
        self.snapshots = self.issued_defaults = None

    def apply_stored(self, data: dict[str, Raw], stored: dict[str, Raw], dropped: list[str]) -> None:
        """After a commit, update the snapshots: `stored` was written by this request, `dropped` was removed."""
        if self.snapshots is not None:
            for name in (*stored, *dropped):
                self.snapshots.pop(name, None)
        for name in stored:
            if type(self.items.get(name)) not in IMMUTABLE:
                self.keep_snapshot(name, data[name])

    def rebase(self, items: dict[str, Any], snapshots: dict[str, Raw] | None = None) -> None:
        """Replace all values by those that another request has stored; keep issued defaults."""
        self.items = items
        self.snapshots = snapshots
