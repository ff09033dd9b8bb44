"""How the SMTP adapter holds a conversation to the deadline and to a size."""
