"""The values of a session: decoded when they are first read, compared when the request ends."""

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from sessioncore._errors import CodecError, ConfigError
from sessioncore.codec._codec import IMMUTABLE, Codec

__all__ = ["Values"]


class Values(Struct, eq=False):
    """What a session shows as a mapping.

    Invariants: a value in `items` is `Raw` until it is read. A key stands in `snapshots`
    only if its value can change in place and was read or stored by this request; it then
    holds the bytes that the storage has. A key in `issued_defaults` that
    is in `items`, too, was set or loaded since, and counts no more.
    """

    codec: Codec
    items: dict[str, Any]
    snapshots: dict[str, Raw] | None = None  # None: nothing was read that can change in place
    issued_defaults: dict[str, tuple[Any, Raw]] | None = None  # of typed keys, with their bytes; None: none was issued

    def __repr__(self) -> str:
        return f"<Values keys={len(self.items)}>"

    def decode(self, name: str, raw: Raw) -> Any:
        """Decode a value on its first read."""
        value = self.items[name] = self.codec.decode(name, raw)
        if type(value) not in IMMUTABLE:
            self.keep_snapshot(name, raw)
        return value

    def read(self, name: str) -> Any:
        """Return the value under `name`, which must be there."""
        value = self.items[name]
        return self.decode(name, value) if type(value) is Raw else value

    def keep_snapshot(self, name: str, raw: Raw) -> None:
        """Keep the bytes of a value that can change in place, for comparison at the commit."""
        if self.snapshots is None:
            self.snapshots = {}
        self.snapshots[name] = raw

    def issue_default(self, name: str, factory: Callable[[], Any]) -> Any:
        """Return the default of a typed key, always the same object; it is stored once it is changed in place."""
        if self.issued_defaults is None:
            self.issued_defaults = {}
        if name not in self.issued_defaults:
            value = factory()
            self.issued_defaults[name] = (value, self.codec.encode(name, value))
        return self.issued_defaults[name][0]

    def changed_defaults(self) -> dict[str, Any]:
        """Take the issued defaults that were changed in place out of `issued_defaults`, and return them."""
        changed: dict[str, Any] = {}
        kept: dict[str, tuple[Any, Raw]] = {}
        for name, (value, raw) in (self.issued_defaults or {}).items():
            if name in self.items:
                continue  # set or loaded meanwhile
            if self.codec.encode(name, value) == raw:
                kept[name] = (value, raw)
            else:
                changed[name] = value
        self.issued_defaults = kept or None
        return changed

    def drop_default(self, name: str) -> None:
        """Forget an issued default that nobody changed."""
        if self.issued_defaults is not None:
            self.issued_defaults.pop(name, None)

    def changed_in_place(self, name: str) -> Raw | None:
        """Return the new bytes of a value in `snapshots` that was changed in place; None if it was not."""
        assert self.snapshots is not None
        raw = self.snapshots[name]
        encoded = self.codec.encode(name, self.items[name])
        if encoded == raw:
            return None
        # A class that gained a field encodes old data differently: that is no change by this request.
        return None if encoded == self.codec.encode(name, self.codec.decode(name, raw)) else encoded

    def has_snapshot(self, name: str) -> bool:
        """Tell whether the bytes that the storage has under `name` are known."""
        return self.snapshots is not None and name in self.snapshots

    def apply(self, name: str, function: Callable[[Any], Any], value: Any, *, unchanged: bool) -> Any:
        """Return `function(value)`; if it raises after it has changed the value in place, the value is as before.

        `unchanged`: this request has not written the key, so its snapshot is what it holds.
        """
        kept = None
        if name in self.items and type(value) not in IMMUTABLE:
            kept = self.snapshots.get(name) if unchanged and self.snapshots is not None else None
            kept = kept or self._encoded(name)
        try:
            result = function(value)
        except BaseException:
            if kept is not None and self._encoded(name) != kept:
                # It left the value half changed. (Else the handler may hold the object, and its later changes count.)
                self.items[name] = self.codec.decode(name, kept)
            raise
        if type(result) is Raw:  # it would pass for a value that was stored already
            raise ConfigError("msgspec.Raw cannot be stored; let the function return the value that it holds")
        return result

    def _encoded(self, name: str) -> Raw | None:
        """Encode a value as it is; None if it cannot be encoded, which the commit will report."""
        try:
            return self.codec.encode(name, self.items[name])
        except CodecError:
            return None

    def replace_all(self, items: dict[str, Any]) -> None:
        """Take other values; what was read of the former ones is forgotten."""
        self.items = items
        self.snapshots = self.issued_defaults = None

    def take_stored(self, data: dict[str, Raw], stored: dict[str, Raw], dropped: list[str]) -> None:
        """After a commit: the bytes in `stored` are this request's own, and `dropped` keys are no more."""
        if self.snapshots is not None:
            for name in (*stored, *dropped):
                self.snapshots.pop(name, None)
        for name in stored:
            if name in self.items and type(self.items[name]) not in IMMUTABLE:
                self.keep_snapshot(name, data[name])

    def rebase(self, items: dict[str, Any]) -> None:
        """Take values that others have stored meanwhile; issued defaults stay."""
        self.items = items
        self.snapshots = None
