"""Loads and commits sessions, and manages the sessions of an owner."""
