"""sessioncore for Litestar: `Litestar(..., plugins=[SessionPlugin(store)])`."""

try:
    from sessioncore_litestar._backend import SessionBackendConfig
    from sessioncore_litestar._connection import get_session
    from sessioncore_litestar._plugin import SessionPlugin
except ModuleNotFoundError as exc:
    if exc.name != "litestar":
        raise
    raise ModuleNotFoundError(
        "sessioncore_litestar needs Litestar: pip install 'sessioncore[litestar]'", name=exc.name
    ) from exc

__all__ = ["SessionBackendConfig", "SessionPlugin", "get_session"]
