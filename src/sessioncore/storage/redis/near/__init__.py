"""Records that this process has read and keeps, to load them without a round trip."""
