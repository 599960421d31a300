"""What a value and a record are in bytes, and back, with their types."""
