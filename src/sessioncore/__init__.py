"""Server-side web sessions for Python's async frameworks."""
