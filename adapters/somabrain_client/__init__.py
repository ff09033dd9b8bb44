"""What the SomaBrain adapter changes at SomaBrain, by subject."""
