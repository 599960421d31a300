"""All that knows redis-py: clients and their settings, opening connections, Sentinel, the map of a cluster."""
