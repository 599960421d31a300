"""Reads one field of a request body, for adapters: `from_form` needs no more.

The frameworks' own form parsers consume the body, each in its way, so an adapter
reads the bytes, asks here, and lets the handler read the same bytes again.
"""

from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

__all__ = ["MAX_FORM", "form_field", "is_form"]

MAX_FORM = 1 << 20  # bytes; an ID stands in small forms, uploads are not searched for it
_MAX_FIELDS = 1000


def is_form(content_type: str) -> bool:
    """Tell whether a body of this type can hold form fields."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"application/x-www-form-urlencoded", "multipart/form-data"}


def form_field(content_type: str, body: bytes, name: str) -> str | None:
    """Return the first text field `name` of an urlencoded or multipart body of at most `MAX_FORM` bytes, or None.

    What cannot be parsed holds no field: an ID is read here, nothing is validated.
    """
    if len(body) > MAX_FORM or not is_form(content_type):
        return None
    if content_type.lower().lstrip().startswith("multipart/"):
        return _multipart(content_type, body, name)
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:  # not UTF-8, or too many fields
        return None
    return next((value for key, value in pairs if key == name), None)


def _multipart(content_type: str, body: bytes, name: str) -> str | None:
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        if part.get_param("name", header="content-disposition") == name and part.get_filename() is None:
            payload = part.get_payload(decode=True)
            return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else None
    return None
