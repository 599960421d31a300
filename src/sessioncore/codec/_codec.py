"""Encodes values to bytes and decodes them, with their types.

None, bool, int, float, str, bytes, list and dict are plain MessagePack. Every other type is
a MessagePack extension, so decoding is one pass of msgspec's C code that calls Python for
extensions only. There is no pickle, no eval and no import by name: forged bytes can make
decoding fail, but never run code.
"""

from types import NoneType
from typing import Any, Final, cast

from msgspec import Raw
from msgspec.msgpack import Encoder as MessagePack

from sessioncore._errors import CodecError, CorruptRecord, UnregisteredType
from sessioncore.codec._builtin_values import IMMUTABLE
from sessioncore.codec._decoder import decoders
from sessioncore.codec._encoder import Encoder, ReadBack
from sessioncore.codec._refusals import Refused
from sessioncore.codec._registry import Registry

__all__ = ["IMMUTABLE", "NO_DETAILS", "Codec"]

NO_DETAILS: Final = Raw(b"\x80")  # an empty dict

# Types that msgspec encodes natively and decodes to the same type. int and str are among them for
# speed: MessagePack cannot hold very large integers and lone surrogates. Encoding one of those
# raises, and the value is then encoded again with a check of each int and str.
_PLAIN = frozenset({NoneType, bool, int, float, str, bytes})
_PLAIN_CAREFUL = frozenset({NoneType, bool, float, bytes})

_pack = MessagePack().encode


class Codec:
    """Encodes and decodes single values; knows the registered types of one store.

    With `flatten`, an instance of an unregistered subclass of some built-in types is encoded as one of the type itself.
    """

    __slots__ = ("_careful", "_decode", "_fast", "_unchecked", "_unchecked_careful", "registry")

    def __init__(self, *, flatten: bool = False) -> None:
        self.registry: Registry = Registry()
        self._decode, read = decoders(self.registry)
        self._unchecked = Encoder(self.registry, _PLAIN, flatten)
        self._unchecked_careful = Encoder(self.registry, _PLAIN_CAREFUL, flatten)
        self._fast = Encoder(self.registry, _PLAIN, flatten, ReadBack(self._unchecked, read))
        self._careful = Encoder(self.registry, _PLAIN_CAREFUL, flatten, ReadBack(self._unchecked_careful, read))

    def encode(self, key: str, value: object, *, checked: bool = True) -> Raw:
        """Return the bytes of the value under `key`; error texts name the key.

        `checked`: values of the types for which this may fail are read back before they are
        stored. Bytes that are only compared need no check.

        Raises:
            UnregisteredType: the value, or a part of it, has an unknown type.
            CodecError: it is cyclic, nested deeper than 128, or could not be read back.
        """
        try:
            try:
                return Raw(_pack((self._fast if checked else self._unchecked).to_wire(value, 0)))
            except (OverflowError, UnicodeEncodeError):
                return Raw(_pack((self._careful if checked else self._unchecked_careful).to_wire(value, 0)))
        except Refused as exc:
            raise exc.public(key) from exc.__cause__
        except RecursionError:
            raise CodecError(f"session key {key!r}: nested too deep, or cyclic; store a flatter value") from None
        except Exception as exc:  # for example, a user's tzinfo raised
            raise CodecError(f"session key {key!r} cannot be encoded ({type(exc).__name__})") from exc

    def encode_details(self, details: dict[str, Any]) -> Raw:
        """Return the bytes of an owner's details; error texts name the detail.

        Raises:
            CodecError: as `encode` does.
        """
        if not details:
            return NO_DETAILS
        try:
            return self.encode("details", details)
        except CodecError as exc:
            refused = exc
        for name, value in details.items():
            self.encode(f"details.{name}", value)
        raise refused

    def decode_details(self, raw: Raw) -> dict[str, Any]:
        """Return the details that `raw` holds.

        Raises:
            CodecError: as `decode` does.
        """
        details = self.decode("details", raw)
        if type(details) is not dict:
            raise CorruptRecord("the details of the session are damaged: they are no dict")
        return cast("dict[str, Any]", details)

    def decode(self, key: str, raw: Raw) -> Any:
        """Return the value that `raw` holds.

        Raises:
            UnregisteredType: it contains a type that is not registered in this process.
            CorruptRecord: the bytes are damaged, or no longer fit the registered class.
        """
        try:
            return self._decode(raw)
        except UnregisteredType as exc:
            raise UnregisteredType(f"session key {key!r}: {exc}") from None
        except Exception as exc:  # noqa: BLE001 - damaged bytes can raise anything, also in a user's decode=
            # No cause, because its text may contain the value.
            reason = f": {exc.text}" if isinstance(exc, Refused) else f" ({type(exc).__name__})"
            raise CorruptRecord(
                f"session key {key!r} cannot be read{reason}; delete it, or restore its class"
            ) from None
