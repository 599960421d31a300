"""The types that a store knows: each by name, with a way to take it apart and to build it again.

A registry belongs to one store. Names come from the program, never from stored
bytes: decoding looks a name up here and imports nothing.
"""

import enum
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from sessioncore._errors import ConfigError
from sessioncore.codec._classes import field_access, has_shape

__all__ = ["MAX_NAME", "Entry", "Registry"]

MAX_NAME = 1000  # characters


class Entry(msgspec.Struct, frozen=True):
    """One known type: `encode` gives a supported value, `decode` takes it back."""

    name: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    origin: Literal["given", "shape", "annotation"]  # who said how: the user, the class, or a typed key's annotation


class Registry:
    """Maps classes to names and names to classes, one to one but for aliases."""

    __slots__ = ("_builtin", "_learned", "by_class", "by_name")

    def __init__(self, builtin: frozenset[type]) -> None:
        self._builtin = builtin
        self._learned: set[Any] = set()
        self.by_class: dict[type, Entry] = {}
        self.by_name: dict[str, Entry] = {}

    def register(
        self,
        cls: type,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        """Add a type; the same call again has no effect.

        Raises:
            ConfigError: the name or the class already means something else, the
                class is built in, or nothing is known about taking it apart.
        """
        if not isinstance(cls, type):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            raise ConfigError("only a class can be registered, not an instance or an annotation")
        if cls in self._builtin:
            raise ConfigError(f"{cls.__name__} is supported as it is and cannot be registered")
        name = _default_name(cls) if name is None else name
        labels = _labels(cls, name, aliases)
        for label in labels:
            taken = self.by_name.get(label)
            if taken is not None and taken.cls is not cls:
                raise ConfigError(f"the type name {label!r} is already taken by another class; pass name=")
        entry = self._checked(_make_entry(cls, name, encode, decode))
        self.by_class[cls] = entry
        for label in labels:
            self.by_name[label] = entry
        if entry.origin == "shape":
            self._learn_fields(cls)

    def register_annotation(self, annotation: Any) -> None:
        """Add the classes that an annotation names, where they are plain records or enums."""
        try:
            if annotation in self._learned:
                return
            self._learned.add(annotation)
        except TypeError:  # unhashable, such as Annotated[int, []]: nothing to remember it by
            pass
        for part in typing.get_args(annotation):
            self.register_annotation(part)
        cls = typing.get_origin(annotation) or annotation
        if isinstance(cls, enum.Enum):  # an argument of Literal
            self.register_annotation(type(cls))
        elif typing.is_typeddict(cls):
            self._learn_fields(cls)
        elif isinstance(cls, type):
            self._learn_class(cls)
        elif (target := getattr(cls, "__supertype__", None) or getattr(cls, "__value__", None)) is not None:
            self.register_annotation(target)  # a NewType, or a `type` statement

    def _learn_class(self, cls: type) -> None:
        name = _default_name(cls)
        # An explicit registration may hold the name; the class then stays unknown and says so when it is used.
        if cls in self._builtin or cls in self.by_class or name in self.by_name or not has_shape(cls):
            return
        try:
            encode, decode = field_access(cls)
        except ConfigError:  # it needs a word from the user, and says so when it is used
            return
        self.by_class[cls] = self.by_name[name] = Entry(name, cls, encode, decode, "annotation")
        self._learn_fields(cls)

    def _learn_fields(self, cls: Any) -> None:
        try:
            hints = typing.get_type_hints(cls)
        except Exception:  # noqa: BLE001 - annotations are the user's, and may fail in any way; fields then need a word
            return
        for hint in hints.values():
            self.register_annotation(hint)

    def _checked(self, entry: Entry) -> Entry:
        """Return the entry to use: the one that is there already, if both mean the same."""
        known = self.by_class.get(entry.cls)
        if known is None or known.origin == "annotation":
            return entry
        same = known.name == entry.name and known.origin == entry.origin
        if entry.origin == "given":
            same = same and known.encode == entry.encode and known.decode == entry.decode
        if not same:
            raise ConfigError(f"{known.cls.__qualname__} is already registered as {known.name!r} with another meaning")
        return known


def _default_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _labels(cls: type, name: str, aliases: Iterable[str]) -> list[str]:
    labels = [name, *(() if isinstance(aliases, str) else aliases)]
    if isinstance(aliases, str) or not all(map(_is_label, labels)):
        raise ConfigError(f"name= and each of the list aliases= for {cls.__qualname__} must be printable text")
    return labels


def _is_label(text: object) -> bool:
    return isinstance(text, str) and text.isprintable() and 0 < len(text) <= MAX_NAME


def _make_entry(
    cls: type, name: str, encode: Callable[[Any], Any] | None, decode: Callable[[Any], Any] | None
) -> Entry:
    if encode is None and decode is None:
        return Entry(name, cls, *field_access(cls), origin="shape")
    if not callable(encode) or not callable(decode):
        raise ConfigError(f"give both encode= and decode= for {cls.__qualname__}, or neither")
    return Entry(name, cls, encode, decode, origin="given")
