"""Decodes values with their types."""

from collections.abc import Callable, Container
from typing import Any

from msgspec import Raw
from msgspec.msgpack import Decoder

from sessioncore._errors import UnregisteredType
from sessioncore.codec._builtin_values import COMPOSITES, LEAVES, REGISTERED
from sessioncore.codec._refusals import Refused
from sessioncore.codec._registry import MAX_NAME, Registry

__all__ = ["decoders"]


# By the codes.
_LEAVES = {leaf.code: leaf.from_bytes for leaf in LEAVES.values()}
_COMPOSITES = {kind.code: kind.build for kind in COMPOSITES.values()}


def _how_to_register(name: str, known: Container[str]) -> str:
    if name.startswith("__main__.") or f"__main__.{name.rpartition('.')[2]}" in known:
        return (
            "a class has another module when its file is run as a program: pass name= to store.register_type(), and "
            "the stored name in aliases="
        )
    return "call store.register_type()"


def decoders(registry: Registry) -> tuple[Callable[[Raw], Any], Callable[[bytes], Any]]:
    """Return the functions that decode a value, and a registered value without its extension.

    They use one Python frame for each level of nesting.
    """
    by_name = registry.by_name

    def ext_hook(code: int, data: memoryview) -> Any:
        if code == REGISTERED:
            return read_registered(data)
        if (build := _COMPOSITES.get(code)) is not None:
            return build(decode_list(data))
        read = _LEAVES.get(code)
        if read is None:
            raise Refused("the value has a type that this version of sessioncore does not know")
        return read(data)

    def read_registered(data: "memoryview | bytes") -> Any:
        name, parts = decode_registered(data)
        known = by_name.get(name)
        if known is None:
            if len(name) > MAX_NAME or not name.isprintable():
                raise Refused("the name of a type is damaged")
            advice = _how_to_register(name, by_name)
            raise UnregisteredType(f"the type {name!r} is not registered in this process; {advice}")
        try:
            return known.access.build(parts)
        except Refused:
            raise
        except Exception as exc:
            raise Refused(f"{known.name} could not be made of what was stored ({type(exc).__name__})") from exc

    decode_list = Decoder(list[Any], ext_hook=ext_hook).decode
    decode_registered = Decoder(tuple[str, Any], ext_hook=ext_hook).decode
    return Decoder(ext_hook=ext_hook).decode, read_registered
