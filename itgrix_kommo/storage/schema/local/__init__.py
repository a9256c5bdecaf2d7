"""Revisions of the daemon's own database."""
