"""What a handler holds: the session, its typed keys, and the state behind it. No I/O."""
