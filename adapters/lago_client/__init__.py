"""What the Lago adapter changes at Lago, by subject."""
