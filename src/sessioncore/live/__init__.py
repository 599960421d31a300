"""Ends `alive` blocks, WebSockets and event streams when their session ends."""
