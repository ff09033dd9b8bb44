"""What people see: one module per page, each with a ``PAGE`` and a ``render()``."""

import sys
from pathlib import Path

# Streamlit puts the folder of the main script first on the import path while the script runs, unless it is
# already there. First, ``import redis`` would find pages/redis.py instead of the library; last, it does not.
_HERE = str(Path(__file__).parent)
sys.path[:] = [entry for entry in sys.path if entry != _HERE] + [_HERE]
