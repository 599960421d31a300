"""A counter, a login and a list of devices, in Litestar."""
