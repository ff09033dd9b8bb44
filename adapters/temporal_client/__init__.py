"""What is read from and done in Temporal, by subject: async functions that take the client."""
