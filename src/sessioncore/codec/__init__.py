"""Encodes values and records to bytes and decodes them, with their types."""
