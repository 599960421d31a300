"""One session in one request: what was loaded, what the request wants changed. No I/O.

`Session` is the face of a draft; `_commit` brings it into the storage. A draft
decodes a value when it is first read and keeps the bytes beside it, so that a
change in place shows up as a difference, and keeps a journal of its own changes,
so that they can be applied again to a record that others changed meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import UNSET, Raw, Struct, field

from sessioncore._config import SessionConfig, mint
from sessioncore._errors import CodecError, ConfigError, LifecycleError, ResponseStarted, SessionError
from sessioncore._storage_protocol import Stored
from sessioncore.codec._codec import IMMUTABLE, Codec
from sessioncore.codec._record import Record
from sessioncore.http._ids import handle_of
from sessioncore.session._changes import DROP, NO_WISHES, NOTHING, SET, Attempt, Delta, Update, Wishes, Write, time_left
from sessioncore.session._states import AFTER, ENDED, FRESH, LIVE, RELEASED, State, Verb

__all__ = ["Draft", "Recalled"]


class Recalled:
    """Raises an error anew on each call: one that is kept and raised again would gather tracebacks."""

    __slots__ = ("_cause", "_kind", "_text")

    def __init__(self, error: SessionError) -> None:
        self._kind = type(error)
        self._text = str(error)
        self._cause = error.__cause__

    def __call__(self) -> SessionError:
        error = self._kind(self._text)
        error.__cause__ = self._cause
        return error


class Draft(Struct, eq=False):
    """The working state behind a `Session`, for this package only; a Struct, since one is made per request."""

    config: SessionConfig
    codec: Codec
    items: dict[str, Any] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]  # Raw until read
    read: dict[str, Raw] | None = None  # of values that can change in place, the bytes that they were
    ops: dict[str, str | Update] | None = None  # the journal
    defaults: dict[str, tuple[Any, Raw]] | None = None  # handed out by typed keys, not stored yet
    shuffled: bool = False  # the journal alone no longer tells in which order the keys were set
    wishes: Wishes | None = None
    taken: "tuple[dict[str, str | Update] | None, Wishes | None, bool] | None" = None  # on its way into the storage
    doubt: Attempt | None = None  # what `taken` was sent with, if nobody knows whether it arrived
    saving: list[Any] | None = None  # a commit is under way, and these events wait for its end
    blocked: Callable[[], SessionError] | None = None
    failure: Callable[[], SessionError] | None = None  # what a verb met; frameworks turn it into a 500 of their own
    busy: bool = False  # the response has to look here: it was used, or its idle clock is to be renewed
    accessed: bool = False
    open: bool = False  # checked once, so that reads need not check again
    started: bool = False  # the response has left: no ID can reach the client any more
    state: State = FRESH
    left: State = FRESH  # once it is released, what it was: the response has to tell of that still
    record: Record | None = None
    version: int = 0
    ttl: float = 0.0
    loaded_at: float = 0.0
    renew: bool = False  # the idle clock is stale
    renewed: bool = False  # the idle clock was set anew, so a cookie that follows it must be sent again
    announce: bool = False  # a stored ID that the client does not know yet
    stored_id: str | None = None  # of the record behind
    stored_handle: str | None = None
    new_id: str | None = None  # to be, after a rotation or for the next record

    def __repr__(self) -> str:
        return "<Draft>"  # the fields hold the ID and the values

    def load(self, session_id: str, handle: str, record: Record, stored: Stored, now: float) -> None:
        """Take a stored record as the base."""
        self.state = LIVE
        self.stored_id = session_id
        self.stored_handle = handle
        self.items = record.data.copy()
        self.record = record
        self.version = stored.version
        self.ttl = stored.ttl
        self.loaded_at = now

    # -- identity and clocks

    @property
    def id(self) -> str:
        """The ID in force: of the record behind, or the one that the next write will get."""
        return self.new_id or self.stored_id or self.mint_id()

    @property
    def handle(self) -> str:
        """The public name: of the stored record if there is one."""
        state = self.left if self.state is RELEASED else self.state  # a commit may still be on its way
        if state is LIVE and self.stored_handle is not None:
            return self.stored_handle
        return handle_of(self.id)

    def mint_id(self) -> str:
        """Choose the ID of the next record."""
        self.new_id = mint(self.config)
        return self.new_id

    @property
    def key(self) -> str:
        """The storage key of the record behind."""
        return self.config.key_prefix + self.handle

    @property
    def owner(self) -> str | None:
        """The owner, as this request sees it."""
        for wishes in self._asked():
            if wishes.owner is not UNSET:
                return wishes.owner
        return self.record.owner if self.record is not None else None

    @property
    def details(self) -> Raw:
        """The owner's details, encoded."""
        for wishes in self._asked():
            if wishes.owner is not UNSET:
                return wishes.details
        return self.record.details if self.record is not None else NOTHING

    @property
    def idle(self) -> float:
        """The idle timeout in force, in seconds."""
        own = self.record.idle if self.record is not None else None
        for wishes in self._asked():
            if wishes.idle is not UNSET:
                own = wishes.idle
                break
        return self.config.idle_seconds if own is None else own

    def expires_at(self) -> float:
        """When the session ends if it is not used again, in seconds since the epoch."""
        record = self.record
        fresh_idle = any(wishes.idle is not UNSET for wishes in self._asked())
        if record is None:
            now = self.config.clock()
            return now + time_left(self.config, now, self.idle, now)
        if self.renew or fresh_idle:
            return self.loaded_at + time_left(self.config, record.created_at, self.idle, self.loaded_at)
        return self.loaded_at + time_left(self.config, record.created_at, self.ttl, self.loaded_at)

    def _asked(self) -> Iterator[Wishes]:
        """The wishes that are not stored yet, newest first."""
        if self.wishes is not None:
            yield self.wishes
        if self.taken is not None and self.taken[1] is not None:
            yield self.taken[1]

    # -- guards

    def enter(self) -> None:
        """Check once that the session may be used, and note that it was."""
        self.busy = True
        if self.blocked is not None:
            self.failure = self.blocked
            raise self.blocked()
        self.accessed = self.open = True

    def begin(self) -> dict[str, str | Update]:
        """Return the journal for a write; called again after each commit."""
        if not self.open:
            self.enter()
        if self.state is not LIVE:
            self._advance(Verb.WRITE)
            if self.started:
                raise ResponseStarted(
                    "the response has started, so the client can no longer learn the ID of a new session; "
                    "write to the session before the first byte"
                )
            if self.state is ENDED and self.new_id is None:
                self.mint_id()
        if self.ops is None:
            self.ops = {}
        return self.ops

    def wish(self) -> Wishes:
        """Return the pending changes to the session itself; a write like any other."""
        self.begin()
        if self.wishes is None:
            self.wishes = Wishes()
        return self.wishes

    def rotate(self) -> Wishes:
        """Ask for a new ID."""
        self.refuse_after_start()
        wishes = self.wish()
        self._advance(Verb.ROTATE)
        wishes.rotate = True
        self.mint_id()
        return wishes

    def refuse_after_start(self) -> None:
        """Raise if a new ID could no longer reach the client."""
        if not self.open:
            self.enter()
        if self.started:
            raise ResponseStarted(
                "the response has started, so the client can no longer learn a new ID; "
                "call regenerate, login or reset before the first byte"
            )

    def _advance(self, verb: Verb) -> None:
        after = AFTER[self.state][verb]
        if after is None:
            raise LifecycleError(f"{verb.name.lower()} is not possible for a session that is {self.state.name.lower()}")
        self.state = after

    # -- values

    def decode(self, name: str, raw: Raw) -> Any:
        """Decode a value on its first read."""
        value = self.items[name] = self.codec.decode(name, raw)
        if type(value) not in IMMUTABLE:
            self.watch(name, raw)
        return value

    def watch(self, name: str, raw: Raw) -> None:
        """Keep the bytes of a value that can change in place, for comparison at the commit."""
        if self.read is None:
            self.read = {}
        self.read[name] = raw

    def update(self, name: str, function: Callable[[Any], Any], default: Any) -> Any:
        """Apply `function` to a value now, and remember it for a conflict.

        Raises:
            KeyError: there is neither a value nor a default.
        """
        ops = self.begin()
        encoded = None if default is UNSET else self.codec.encode(name, default)
        before = ops.get(name)
        if before is None and self.read is not None and name in self.read and self.changed_in_place(name) is not None:
            before = SET  # the function saw a change of this request; applied alone it would lose it
        if name in self.items:
            value = self.items[name]
            if type(value) is Raw:
                value = self.decode(name, value)
        elif encoded is not None:
            value = self.codec.decode(name, encoded)
        else:
            raise KeyError(name)
        kept = None if type(value) in IMMUTABLE or name not in self.items else self._bytes_now(name, before)
        try:
            value = function(value)
        except BaseException:
            if kept is not None and self._bytes_now(name, SET) != kept:
                # It left the value half changed. (Else the handler may hold the object, and its later changes count.)
                self.items[name] = self.codec.decode(name, kept)
            raise
        if type(value) is Raw:  # it would pass for a value that was stored already
            raise ConfigError("msgspec.Raw cannot be stored; let the function return the value that it holds")
        if name not in self.items:
            self.shuffled = True
        self.items[name] = value
        if isinstance(before, Update):
            before.functions.append(function)
        else:
            ops[name] = Update([function], encoded) if before is None else SET
        return value

    def _bytes_now(self, name: str, before: "str | Update | None") -> Raw | None:
        """Encode a value as it is; None if it cannot be, which the commit will tell."""
        if before is None and self.read is not None and name in self.read:
            return self.read[name]  # not changed since
        try:
            return self.codec.encode(name, self.items[name])
        except CodecError:
            return None

    def drop_values(self) -> None:
        """Forget every value, also those of this request: they are another owner's."""
        self.items, self.ops = {}, {}
        self.read = self.defaults = None

    def changed_in_place(self, name: str) -> Raw | None:
        """Return the new encoding of a value that was read and then changed in place; None if it was not."""
        value = self.items[name]
        assert self.read is not None
        raw = self.read[name]
        encoded = self.codec.encode(name, value)
        if encoded == raw:
            return None
        # A class that gained a field encodes old data differently: that is no change by this request.
        return None if encoded == self.codec.encode(name, self.codec.decode(name, raw)) else encoded

    def adopt_defaults(self) -> None:
        """Take over the defaults of typed keys that were changed in place."""
        handed, self.defaults = self.defaults, None
        for name, (value, raw) in (handed or {}).items():
            if name not in self.items and self.codec.encode(name, value) != raw:
                self.begin()[name] = SET
                self.items[name] = value
            elif name not in self.items:
                self.defaults = {**(self.defaults or {}), name: (value, raw)}

    def forget_default(self, name: str) -> None:
        """Before mutate(): a default that was handed out and changed counts, one that was not is of no use."""
        if self.defaults is not None:
            self.adopt_defaults()
            self.defaults = {other: kept for other, kept in (self.defaults or {}).items() if other != name} or None

    # -- the commit's side

    def delta(self) -> Delta | None:
        """Return what this request changes, or None; everything is encoded here, before any write.

        Raises:
            CodecError: a value cannot be encoded; the text names its key.
        """
        if self.defaults is not None:
            self.adopt_defaults()
        if self.ops is None and self.read is None and self.wishes is None:
            return None
        puts: dict[str, Raw] = {}
        drops: list[str] = []
        updates: dict[str, Update] = {}
        results: dict[str, Raw] = {}
        wishes = self.wishes or NO_WISHES
        base = self.record.data if self.record is not None and not wishes.cleared else {}
        encode, ops = self.codec.encode, self.ops or {}
        for name, op in ops.items():
            if op is DROP:
                if name in base:
                    drops.append(name)
                continue
            encoded = encode(name, self.items[name])
            if name in base and encoded == base[name] and not self.shuffled:
                continue  # set to what it was, where it was
            if op is SET:
                puts[name] = encoded
            else:
                assert isinstance(op, Update)
                updates[name], results[name] = op, encoded
        if self.read is not None:
            for name in self.read:
                changed = None if name in ops or name not in self.items else self.changed_in_place(name)
                if changed is not None:
                    puts[name] = changed
        if not (puts or drops or results) and wishes is NO_WISHES:
            return None
        return Delta(puts, drops, updates, results, wishes, list(self.items) if self.shuffled else None)

    def take(self) -> None:
        """Set aside what is being stored: what other tasks change meanwhile is for the next commit."""
        self.taken = self.ops, self.wishes, self.shuffled
        self.ops = self.wishes = None
        self.shuffled = False

    def give_back(self) -> None:
        """After a commit that failed: what was set aside is pending again, below what came later."""
        assert self.taken is not None
        (ops, wishes, shuffled), self.taken, self.doubt = self.taken, None, None
        if self.state is RELEASED:
            return
        merged = {} if self._cleared else ops or {}
        for name, op in (self.ops or {}).items():
            before = merged.get(name)
            if isinstance(op, Update) and isinstance(before, Update):
                before.functions.extend(op.functions)
            else:
                merged[name] = SET if isinstance(op, Update) and before is not None else op
        self.ops = merged or None
        self.shuffled = self.shuffled or shuffled
        later, self.wishes = self.wishes, wishes
        if self.ops is None and (wishes is not None or later is not None):
            self.ops = {}  # what a commit asks first: a login alone has to be stored, too
        if wishes is None or later is None:
            self.wishes = wishes or later
            return
        wishes.rotate, wishes.login = wishes.rotate or later.rotate, wishes.login or later.login
        wishes.cleared = wishes.cleared or later.cleared
        if later.owner is not UNSET:
            wishes.owner, wishes.details = later.owner, later.details
        if later.idle is not UNSET:
            wishes.idle = later.idle

    @property
    def _cleared(self) -> bool:
        """Whether another owner has logged in since `take`: what was taken is not theirs."""
        return self.wishes is not None and self.wishes.cleared

    def settle(self, session_id: str | None, handle: str, delta: Delta, stored: Write, *, merged: bool) -> None:
        """Take the record that was just stored as the new base; `session_id` if it is a new one."""
        self.taken = self.doubt = None
        record = stored.record
        if self.state is RELEASED:
            if session_id is not None:  # of use to nobody any more, but the client has to learn where it is
                self.left, self.stored_id, self.announce, self.record = LIVE, session_id, True, record
                self.new_id = None
            return
        if self.state is not LIVE:
            self._advance(Verb.STORED)
        if session_id is not None:
            self.stored_id, self.announce = session_id, True
            if self.new_id == session_id:  # else it is of a rotation that came meanwhile
                self.new_id = None
        own: Iterable[str] = delta.puts
        if delta.results:
            own = {**delta.puts, **delta.results}
        if merged:  # others' values replace what was read; values that we set stay the objects they are
            read, self.read = self.read or {}, None
            own = {
                name: raw
                for name, raw in record.data.items()
                if name in self.items and (name in delta.puts or read.get(name) == raw)
            }
            self._merge(record, own)
        for name in own:
            if name in self.items and type(self.items[name]) not in IMMUTABLE:
                self.watch(name, record.data[name])
        if self.read is not None:
            for name in delta.drops:
                self.read.pop(name, None)
        self.stored_handle, self.record, self.version = handle, record, stored.version
        self.ttl, self.loaded_at = stored.ttl, record.written_at
        self.renew = False

    def _merge(self, record: Record, own: Iterable[str]) -> None:
        """Take over what others stored; not where this request's value is the one stored, or newer still."""
        later, data = self.ops or {}, {} if self._cleared else record.data
        items = {
            name: self.items[name] if name in own and name not in later else raw
            for name, raw in data.items()
            if later.get(name) is not DROP
        }
        self.items, mine = items, self.items
        for name, op in list(later.items()):
            if not isinstance(op, Update):
                if op is SET:
                    items[name] = mine[name]
                continue
            raw = data.get(name, op.default)
            if raw is None:  # deleted by the other request: as if that had come after this update
                del later[name]
                continue
            value = self.codec.decode(name, raw)
            for function in op.functions:
                value = function(value)
            items[name] = value

    def lost(self) -> None:
        """The record is gone: drop the changes, and store nothing more."""
        if self.state is RELEASED:
            self.taken = self.doubt = self.new_id = None
            return
        self._advance(Verb.LOST)
        self._clear()
        self.new_id = None

    def end(self) -> None:
        """The record was ended by this request; what is written from now on belongs to a new one."""
        self._advance(Verb.END)
        self._clear()
        self.stored_id, self.new_id = self.new_id or self.stored_id, None  # it shows until something is written
        self.announce = False

    def discard(self) -> None:
        """Forget what is not committed; the stored session stays as it was."""
        if self.state is LIVE and self.record is not None:
            self.items = self.record.data.copy()
            self.new_id = None
        else:
            self.items = {}
        self.read = self.ops = self.wishes = self.defaults = self.taken = self.doubt = None
        self.shuffled = False

    def release(self, reason: Callable[[], SessionError]) -> None:
        """End the use of this draft: every later use raises; what was not stored is dropped."""
        if self.state is not RELEASED:
            self.left = self.state
            if self.state is LIVE:
                self.new_id = None
        self.state = RELEASED
        self.blocked = reason
        self.open = False
        self.ops = self.read = self.defaults = None  # the next write asks, and is refused

    def _clear(self) -> None:
        self.items = {}
        self.read = self.ops = self.wishes = self.record = self.defaults = self.taken = self.doubt = None
