"""What a record is in Redis, and the scripts and commands that read and change it, on one server or a cluster."""
