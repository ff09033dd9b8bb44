"""What is particular to the Temporal page, one face or section per file."""
