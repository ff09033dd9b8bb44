"""What the rate limits page is made of: one face per file, and what the faces share."""
