"""What a handler holds, and what a commit makes of its changes, also after a conflict. No I/O."""
