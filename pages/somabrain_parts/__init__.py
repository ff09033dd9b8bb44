"""Parts of the page of SomaBrain."""
