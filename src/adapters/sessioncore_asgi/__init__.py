"""sessioncore for asgi."""
