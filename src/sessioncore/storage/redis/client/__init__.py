"""All that knows redis-py: clients and their settings, opening connections, Sentinel, the map of a cluster.

What redis-py does not document is used in two files only: `_opening` takes a connection's socket, and
`_cluster_map` reads the client's `nodes_manager`.
"""
