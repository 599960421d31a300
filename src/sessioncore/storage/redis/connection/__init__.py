"""One connection to a server that all requests of an event loop share, and what every transport is."""
