"""Real servers for the tests and the benchmarks: on free ports, in temporary folders, stopped at the end."""
