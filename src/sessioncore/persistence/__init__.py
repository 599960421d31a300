"""From a request to the storage and back: loading, committing, and the sessions of an owner."""
