"""What the S3 adapter stands on: boto3 over bounded HTTP, and what is stored."""
