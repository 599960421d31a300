"""The error tree: one root, the documented branches, and standard bases that existing handlers know."""

import re
from typing import Any

import sessioncore
from sessioncore import _errors, storage
from sessioncore._errors import __all__ as names

TREE: dict[str, tuple[str, ...]] = {
    "SessionError": ("Exception",), "ConfigError": ("SessionError", "ValueError"), "StorageError": ("SessionError",),
    "StorageUnavailable": ("StorageError",), "KeyTaken": ("StorageError",), "WritesRefused": ("StorageUnavailable",),
    "CodecError": ("SessionError", "ValueError"), "UnregisteredType": ("CodecError", "TypeError"),
    "CorruptRecord": ("CodecError",), "SessionTooLarge": ("CodecError",),
    "LifecycleError": ("SessionError", "RuntimeError"), "SessionGone": ("LifecycleError",),
    "SessionReleased": ("LifecycleError",), "SessionNotLoaded": ("LifecycleError",),
    "ResponseStarted": ("LifecycleError",), "SessionNotFound": ("SessionError", "LookupError"),
    "OwnerLimitReached": ("SessionError",), "CrossSiteRequest": ("SessionError",),
}  # fmt: skip

OF_STORAGES = {"KeyTaken", "WritesRefused"}  # storages raise them for the core


def test_each_error_has_its_bases_is_public_and_says_when_it_is_raised() -> None:
    assert sorted(TREE) == sorted(names)
    for name, bases in TREE.items():
        error: Any = getattr(storage if name in OF_STORAGES else sessioncore, name)
        assert tuple(base.__name__ for base in error.__bases__) == bases
        assert error.__doc__
        assert str(error("what to do next")) == "what to do next"


def test_the_drawing_in_the_module_shows_the_same_tree() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in (_errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)([A-Z][A-Za-z]+)(?: \(|  |$)", line):
            path = [*path[: len(match[1]) // 4], match[2]]
            drawn[match[2]] = path[-2] if len(path) > 1 else None
    assert drawn == {name: (None if name == "SessionError" else bases[0]) for name, bases in TREE.items()}
