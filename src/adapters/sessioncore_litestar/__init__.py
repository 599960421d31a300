"""sessioncore for litestar."""
