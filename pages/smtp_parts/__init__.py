"""Parts of the page of mail."""
