"""What is particular to the PostgreSQL page, one face or section per file."""
