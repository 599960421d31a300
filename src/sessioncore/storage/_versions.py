"""The versions of records in a storage that several processes share."""

from secrets import randbits

__all__ = ["random_version"]


def random_version() -> int:
    """Return a version that no record has had: 62 random bits of the system, so forked processes do not get the same.

    A counter would be one more thing that every write locks, and a failover or a restored backup would set it back.
    """
    return randbits(62)
