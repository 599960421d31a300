"""sessioncore for Litestar: `Litestar(..., plugins=[SessionPlugin(store)])`."""

try:
    from sessioncore_litestar._backend import SessionBackendConfig
    from sessioncore_litestar._connection import get_session
    from sessioncore_litestar._plugin import SessionPlugin
except ModuleNotFoundError as _exc:
    if _exc.name != "litestar":
        raise
    raise ModuleNotFoundError(
        "sessioncore_litestar needs Litestar: pip install 'sessioncore[litestar]'", name=_exc.name
    ) from _exc

__all__ = ["SessionBackendConfig", "SessionPlugin", "get_session"]
