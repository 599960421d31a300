"""Reads one field of a form body, for adapters: `from_form` needs nothing else.

The frameworks' own form parsers consume the body in different ways. So an adapter reads the
bytes, calls `form_field`, and lets the handler read the same bytes again. A body that cannot
be parsed has no fields; it is not an error, because the handler may still accept it.
"""

import re
from urllib.parse import unquote_plus

__all__ = ["MAX_FORM", "form_field", "is_form"]

MAX_FORM = 1 << 20  # bytes at the beginning of a body that are searched for an ID
_MAX_FIELDS = 1000
_MAX_HEAD = 4096  # bytes of one part's header lines
_MAX_VALUE = 4096  # bytes before decoding; an ID is shorter

# `; name=value` or `; name="value"` (RFC 9110, section 5.6.6). A quoted string is one match, whatever it contains.
_PARAMETER = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))', re.ASCII)


def is_form(content_type: str) -> bool:
    """Return whether a body of this content type can have form fields."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"application/x-www-form-urlencoded", "multipart/form-data"}


def form_field(content_type: str, body: bytes, name: str) -> str | None:
    """Return the first text field `name` of an urlencoded or multipart body, or None.

    Fields of more than 4096 bytes and fields after the 1000th are ignored. In a body of more than
    `MAX_FORM` bytes, such as an upload, only the fields before that limit are searched; the rest may be missing.
    """
    if not is_form(content_type):
        return None
    if content_type.lower().lstrip().startswith("multipart/"):
        return _multipart(_parameters(content_type).get("boundary", ""), body, name)
    return _urlencoded(body, name)


def _parts(body: bytes, start: bytes, delimiter: bytes) -> list[bytes]:
    """Split a body into its parts; leave out one that is cut off at `MAX_FORM`."""
    parts = (start + body[:MAX_FORM]).split(delimiter, _MAX_FIELDS)
    if len(body) > MAX_FORM:
        parts.pop()  # it is cut off, or it is the rest after the last field to search
    return parts[:_MAX_FIELDS]


def _urlencoded(body: bytes, name: str) -> str | None:
    max_length = 12 * len(name)  # a character takes at most four bytes of UTF-8, and each of those is %XX
    for pair in _parts(body, b"", b"&"):
        key, _, value = pair.partition(b"=")
        if len(key) <= max_length and unquote_plus(key.decode("latin-1"), errors="replace") == name:
            return unquote_plus(value.decode("latin-1")) if len(value) <= _MAX_VALUE else None
    return None


def _multipart(boundary: str, body: bytes, name: str) -> str | None:
    """Parse RFC 7578: parts between delimiter lines, without nesting and without transfer encodings."""
    if not 0 < len(boundary) <= 70 or not boundary.isascii():
        return None
    delimiter = b"\r\n--" + boundary.encode("ascii")
    for part in _parts(body, b"\r\n", delimiter)[1:]:
        if part.startswith(b"--"):  # the last delimiter; the rest is not a part
            return None
        head, separator, payload = part.partition(b"\r\n\r\n")
        if separator and len(head) <= _MAX_HEAD and _is_text_field(head, name):
            return payload.decode("utf-8", "replace") if len(payload) <= _MAX_VALUE else None
    return None


def _is_text_field(head: bytes, name: str) -> bool:
    """Return whether these header lines belong to the text field `name`, and not to a file."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.lower() == "content-disposition":
            parameters = _parameters(value)
            return parameters.get("name") == name and "filename" not in parameters and "filename*" not in parameters
    return False


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header value; if a name is repeated, its first value."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(value):
        found.setdefault(match[1].lower(), match[3] if match[2] is None else match[2])
    return found
