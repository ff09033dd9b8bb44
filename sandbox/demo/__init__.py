"""Demo data: a small world made from a seed, and its history in the sandbox's stores."""
