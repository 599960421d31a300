"""Reads one field of a request body, for adapters: `from_form` needs no more.

The frameworks' own form parsers consume the body, each in its way, so an adapter
reads the bytes, asks here, and lets the handler read the same bytes again. What
cannot be parsed holds no field: an ID is read here, nothing is validated.
"""

import re
from urllib.parse import unquote_plus

__all__ = ["MAX_FORM", "form_field", "is_form"]

MAX_FORM = 1 << 20  # bytes; an ID stands in small forms, uploads are not searched for it
_MAX_FIELDS = 1000
_MAX_HEAD = 4096  # bytes of one part's header lines
_MAX_VALUE = 4096  # bytes as sent; what is longer is no ID

# `; name=value` or `; name="value"`, RFC 9110, section 5.6.6. Quoted text is passed over as a whole.
_PARAMETER = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))', re.ASCII)


def is_form(content_type: str) -> bool:
    """Tell whether a body of this type can hold form fields."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"application/x-www-form-urlencoded", "multipart/form-data"}


def form_field(content_type: str, body: bytes, name: str) -> str | None:
    """Return the first text field `name` of an urlencoded or multipart body of at most `MAX_FORM` bytes, or None.

    A field of more than 4096 bytes counts as none, and so does what follows the 1000th field.
    """
    if len(body) > MAX_FORM or not is_form(content_type):
        return None
    if content_type.lower().lstrip().startswith("multipart/"):
        return _multipart(_parameters(content_type).get("boundary", ""), body, name)
    return _urlencoded(body, name)


def _urlencoded(body: bytes, name: str) -> str | None:
    longest = 12 * len(name)  # four octets of UTF-8, each as %XX; longer names are not worth decoding
    for pair in body.split(b"&", _MAX_FIELDS)[:_MAX_FIELDS]:
        key, _, value = pair.partition(b"=")
        if len(key) <= longest and unquote_plus(key.decode("latin-1"), errors="replace") == name:
            return unquote_plus(value.decode("latin-1")) if len(value) <= _MAX_VALUE else None
    return None


def _multipart(boundary: str, body: bytes, name: str) -> str | None:
    """RFC 7578: parts between delimiter lines, none nested, none encoded."""
    if not 0 < len(boundary) <= 70 or not boundary.isascii():
        return None
    delimiter = b"\r\n--" + boundary.encode("ascii")
    for part in (b"\r\n" + body).split(delimiter, _MAX_FIELDS)[1:_MAX_FIELDS]:
        if part.startswith(b"--"):  # the last delimiter; what follows is no part
            return None
        head, blank, payload = part.partition(b"\r\n\r\n")
        if blank and len(head) <= _MAX_HEAD and _names(head, name):
            return payload.decode("utf-8", "replace") if len(payload) <= _MAX_VALUE else None
    return None


def _names(head: bytes, name: str) -> bool:
    """Tell whether these header lines are those of the text field `name`; a file is none."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.lower() == "content-disposition":
            given = _parameters(value)
            return given.get("name") == name and "filename" not in given and "filename*" not in given
    return False


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header value; of a repeated name, the first."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(value):
        found.setdefault(match[1].lower(), match[3] if match[2] is None else match[2])
    return found
