"""Ends reach what is still open: `Session.alive`, WebSockets and event streams."""
