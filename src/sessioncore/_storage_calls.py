"""The calls of the storage contract as values, and their replies.

The core decides which call to make and what its reply means, without I/O; the driver in
`persistence` makes the call. Only `invoke` knows which method a call belongs to.
"""

from enum import Enum
from types import NoneType
from typing import Any, ClassVar, Final, TypeAlias

from msgspec import Struct

from sessioncore._opaque import Opaque

__all__ = [
    "LATER", "Call", "Create", "Delete", "Later", "Load", "Move", "Moved", "Replace", "Reply", "Stored", "Touch",
    "Unreadable", "Written",
]  # fmt: skip


class Stored(Opaque, Struct, frozen=True, gc=False):
    """A record in the storage: its bytes, its version, and the seconds until it expires."""

    data: bytes
    version: int
    ttl: float

    def __repr__(self) -> str:
        return f"<Stored bytes={len(self.data)} version={self.version} ttl={self.ttl:.1f}>"  # `data` has the values


class Unreadable(Struct, frozen=True, gc=False):
    """The reply if the key holds something that this storage did not write; it is never overwritten."""


class Moved(Opaque, Struct, frozen=True, gc=False):
    """A tombstone: the record that was at this key has moved to `key`, and was not ended."""

    key: str


Written: TypeAlias = int | Stored | Moved | Unreadable | None
"""The result of a conditional write: the new version, or what the key holds instead; None if it holds nothing."""


class _Call(Opaque, Struct, frozen=True, gc=False):
    """A call of a storage; its `operation` is the name of the method."""

    operation: ClassVar[str]
    replies: ClassVar[Any] = object  # the types that the driver passes on; a commit judges the replies to its writes


class Load(_Call, frozen=True, gc=False):
    """`Storage.load` as a value."""

    key: str
    renew: float | None = None
    uncached: bool = False  # the caller asks what the storage has now: no cache may answer
    operation: ClassVar[str] = "load"
    replies: ClassVar[Any] = (Stored, Moved, Unreadable, NoneType)  # anything else must not pass for "no session"

    def invoke(self, target: Any) -> Any:
        """Make this call on `target`, a Storage, and return its coroutine."""
        return target.load(self.key, renew=self.renew)


class Create(_Call, frozen=True, gc=False):
    """`Storage.create` as a value."""

    key: str
    data: bytes
    ttl: float
    owner: str | None
    operation: ClassVar[str] = "create"

    def invoke(self, target: Any) -> Any:
        """Make this call on `target`."""
        return target.create(self.key, self.data, self.ttl, owner=self.owner)


class Replace(_Call, frozen=True, gc=False):
    """`Storage.replace` as a value."""

    key: str
    data: bytes
    ttl: float
    version: int
    owner: str | None
    operation: ClassVar[str] = "replace"

    def invoke(self, target: Any) -> Any:
        """Make this call on `target`."""
        return target.replace(self.key, self.data, self.ttl, version=self.version, owner=self.owner)


class Move(_Call, frozen=True, gc=False):
    """`Storage.move` as a value."""

    key: str
    new_key: str
    data: bytes
    ttl: float
    version: int
    owner: str | None
    tombstone: float = 0.0  # seconds that the tombstone lasts; 0: the storage keeps none, or none is wanted
    operation: ClassVar[str] = "move"

    def invoke(self, target: Any) -> Any:
        """Make this call on `target`."""
        kept = {"tombstone": self.tombstone} if self.tombstone else {}
        return target.move(self.key, self.new_key, self.data, self.ttl, version=self.version, owner=self.owner, **kept)


class Touch(_Call, frozen=True, gc=False):
    """`Storage.touch` as a value."""

    key: str
    ttl: float
    operation: ClassVar[str] = "touch"

    def invoke(self, target: Any) -> Any:
        """Make this call on `target`."""
        return target.touch(self.key, self.ttl)


class Delete(_Call, frozen=True, gc=False):
    """`Storage.delete` as a value."""

    keys: tuple[str, ...]
    operation: ClassVar[str] = "delete"
    replies: ClassVar[Any] = int

    def invoke(self, target: Any) -> Any:
        """Make this call on `target`."""
        return target.delete(*self.keys)


Call: TypeAlias = Load | Create | Replace | Move | Touch | Delete
Reply: TypeAlias = Stored | Moved | Unreadable | int | bool | None


class Later(Enum):
    """The type of LATER."""

    LATER = "later"


LATER: Final = Later.LATER
"""What `answer_now` returns if the call must be awaited."""
