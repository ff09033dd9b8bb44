"""What PostgreSQL tells about itself, one subject per file. All lists bounded, all reads read-only."""
