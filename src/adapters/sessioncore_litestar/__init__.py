"""sessioncore for Litestar: `Litestar(..., plugins=[SessionPlugin(store)])`."""

from sessioncore.integration import needs_extra

with needs_extra("litestar"):
    from sessioncore_litestar._backend import SessionBackendConfig
    from sessioncore_litestar._connection import get_session
    from sessioncore_litestar._plugin import SessionPlugin

__all__ = ["SessionBackendConfig", "SessionPlugin", "get_session"]
