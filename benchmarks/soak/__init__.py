"""Ten minutes of mixed traffic with faults: does anything grow, and is anything lost? `make soak`."""
