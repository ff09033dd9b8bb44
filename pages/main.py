"""The script Streamlit runs for everyone.

It lives inside ``pages/`` on purpose: with the pages beside the main script, Streamlit runs them
directly on a cold server, without this guard (docs/decisions).
"""

from pages.widgets import shell

shell.run()
