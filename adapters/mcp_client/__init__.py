"""How the MCP adapter asks one server."""
