"""The installer that `scripts/install` starts: only Python's own library, for nothing is installed yet."""
