"""Parts of the page of Lago."""
