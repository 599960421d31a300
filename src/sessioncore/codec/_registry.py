"""The types that a program registers with its store, by name; built-in types are in `_builtin_values`.

Each store has its own registry. Types are registered by the program; decoding looks up the
stored name here and never imports anything.
"""

import enum
import threading
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal

from msgspec import Struct

from sessioncore._callables import is_sync_callable
from sessioncore._errors import ConfigError
from sessioncore.codec._builtin_values import BUILTIN
from sessioncore.codec._classes import class_access
from sessioncore.codec._fields import ClassAccess, assume_same
from sessioncore.codec._refusals import Path, name_of

__all__ = ["MAX_NAME", "Entry", "Registry"]

MAX_NAME = 1000  # characters


class Entry(Struct, frozen=True):
    """One known type."""

    name: str
    cls: type
    access: ClassAccess
    origin: Literal["functions", "class", "annotation"]  # encode= and decode= passed, class registered, or typed key


class Registry:
    """Maps classes to names and names to classes; a class can have aliases besides its name.

    Handlers in several threads may register the annotation of one key at the same time, by its first use.
    """

    __slots__ = ("_begun", "_mutex", "_registered", "by_class", "by_name", "checked")

    def __init__(self) -> None:
        self._begun: set[Any] = set()  # annotations; one may lead to itself
        self._registered: set[Any] = set()  # of these, those whose classes are all known
        self._mutex = threading.RLock()
        self.by_class: dict[type, Entry] = {}
        self.by_name: dict[str, Entry] = {}
        self.checked: set[type] = set()  # the classes whose instances are read back before they are stored

    def register(
        self,
        cls: type,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        """Add a type; repeating the same call has no effect.

        Raises:
            ConfigError: the name or the class is registered differently, the class is built
                in, or it needs `encode` and `decode`, which must not be async.
        """
        if not isinstance(cls, type):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            raise ConfigError("register_type() takes a class, not an instance or an annotation")
        if cls in BUILTIN:
            raise ConfigError(f"{cls.__name__} is a built-in value type; store it without registering it")
        name = name_of(cls) if name is None else name
        names = _checked_names(cls, name, aliases)
        with self._mutex:
            for one in names:
                taken = self.by_name.get(one)
                if taken is not None and taken.cls is not cls:
                    raise ConfigError(f"the type name {one!r} is already taken by another class; pass another name=")
            entry = self._entry_to_use(_make_entry(cls, name, encode, decode))
            self._add(entry, names)
            if entry.origin == "class":
                self._register_field_types(cls)

    def register_annotation(self, annotation: Any) -> None:
        """Add the classes in an annotation that need no `encode` and `decode` of their own."""
        try:
            if annotation in self._registered:
                return
        except TypeError:  # unhashable, such as Annotated[int, []], so it cannot be remembered
            pass
        with self._mutex:
            self._register_parts(annotation)
            with suppress(TypeError):
                self._registered.add(annotation)

    def _register_parts(self, annotation: Any) -> None:
        with suppress(TypeError):
            if annotation in self._begun:
                return
            self._begun.add(annotation)
        for part in typing.get_args(annotation):
            self._register_parts(part)
        cls = typing.get_origin(annotation) or annotation
        if isinstance(cls, enum.Enum):  # an argument of Literal
            self._register_parts(type(cls))
        elif typing.is_typeddict(cls):
            self._register_field_types(cls)
        elif isinstance(cls, type):
            self._register_class(cls)
        elif (target := getattr(cls, "__supertype__", None) or getattr(cls, "__value__", None)) is not None:
            self._register_parts(target)  # a NewType, or a `type` statement

    def _register_class(self, cls: type) -> None:
        name = name_of(cls)
        # If the name belongs to another class, this one stays unregistered, and storing an instance raises.
        if cls in BUILTIN or cls in self.by_class or name in self.by_name:
            return
        try:
            self._add(Entry(name, cls, class_access(cls), "annotation"), [name])
        except ConfigError:  # it needs encode= and decode=; storing an instance raises
            return
        self._register_field_types(cls)

    def _add(self, entry: Entry, names: Iterable[str]) -> None:
        if entry.access.same is not None:
            self.checked.add(entry.cls)
        for name in names:
            self.by_name[name] = entry
        self.by_class[entry.cls] = entry  # last: from here on, other threads store instances

    def _register_field_types(self, cls: Any) -> None:
        for argument in _type_arguments(cls):
            self._register_parts(argument)
        try:
            hints = typing.get_type_hints(cls)
        except Exception:  # noqa: BLE001 - a user's annotations can raise anything; then register field types by hand
            return
        for hint in hints.values():
            self._register_parts(hint)

    def _entry_to_use(self, entry: Entry) -> Entry:
        """Return `entry`, or the entry that the class already has if both mean the same.

        Raises:
            ConfigError: the class is registered with another meaning.
        """
        known = self.by_class.get(entry.cls)
        if known is None or known.origin == "annotation":
            return entry
        same = known.name == entry.name and known.origin == entry.origin
        if entry.origin == "functions":
            same = same and known.access == entry.access
        if not same:
            raise ConfigError(
                f"{known.cls.__qualname__} is already registered as {known.name!r}, with other options; "
                "register it once, or with the same options"
            )
        return known


def _type_arguments(cls: Any) -> Iterator[Any]:
    """Yield the types given to generic base classes: the annotations of their fields have type variables instead."""
    for one in cls.__mro__:
        own: dict[str, Any] = {**vars(one)}
        for base in own.get("__orig_bases__", ()):
            yield from typing.get_args(base)
        # `Model[int]` of pydantic is a class of its own, not an annotation.
        yield from own.get("__pydantic_generic_metadata__", {}).get("args", ())


def _checked_names(cls: type, name: str, aliases: Iterable[str]) -> list[str]:
    names = [name, *(() if isinstance(aliases, str) else aliases)]
    if isinstance(aliases, str) or not all(map(_is_valid_name, names)):
        raise ConfigError(f"name= and every item of the list aliases= for {cls.__qualname__} must be printable text")
    return names


def _is_valid_name(text: object) -> bool:
    return isinstance(text, str) and text.isprintable() and 0 < len(text) <= MAX_NAME


def _make_entry(
    cls: type, name: str, encode: Callable[[Any], Any] | None, decode: Callable[[Any], Any] | None
) -> Entry:
    if encode is None and decode is None:
        return Entry(name, cls, class_access(cls), "class")
    if encode is None or decode is None or not (is_sync_callable(encode) and is_sync_callable(decode)):
        raise ConfigError(f"pass both encode= and decode= for {cls.__qualname__}, functions not async, or neither")
    return Entry(name, cls, ClassAccess(encode, decode, _name_result, assume_same), "functions")


def _name_result(path: Path, _: Any) -> None:
    path.append("what encode= returned")
