"""The settings that a session has of its own: its timeouts, and whether its cookie outlives the browser."""

from typing import Final, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from sessioncore.codec._record import Record

__all__ = ["CONFIGURED", "NO_SETTINGS", "OwnSettings", "Settings"]

OwnSettings: TypeAlias = tuple[float | None, float | None, bool | None]
"""The idle timeout, absolute timeout and persistence of one session; None: as configured."""

CONFIGURED: Final[OwnSettings] = (None, None, None)


class Settings(Struct, frozen=True):
    """What a request has changed. UNSET: nothing; None: back to what is configured. Timeouts are in seconds."""

    idle: float | None | UnsetType = UNSET
    absolute: float | None | UnsetType = UNSET
    persistent: bool | None | UnsetType = UNSET

    def then(self, later: "Settings") -> "Settings":
        """Return both as one; where both set the same thing, the later one wins."""
        return Settings(
            self.idle if later.idle is UNSET else later.idle,
            self.absolute if later.absolute is UNSET else later.absolute,
            self.persistent if later.persistent is UNSET else later.persistent,
        )

    def applied_to(self, own: OwnSettings) -> OwnSettings:
        """Return the settings that a session has after this."""
        if self is NO_SETTINGS:  # nearly always
            return own
        idle, absolute, persistent = own
        return (
            idle if self.idle is UNSET else self.idle,
            absolute if self.absolute is UNSET else self.absolute,
            persistent if self.persistent is UNSET else self.persistent,
        )

    def differ_from(self, record: Record) -> bool:
        """Whether they change the settings of `record`."""
        own = record.idle, record.absolute, record.persistent
        return self.applied_to(own) != own

    def has_timeouts(self) -> bool:
        """Whether a timeout was set."""
        return self.idle is not UNSET or self.absolute is not UNSET


NO_SETTINGS: Final = Settings()
