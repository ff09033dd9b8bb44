"""How the Redis adapter holds its connections to the deadline and the size cap."""
