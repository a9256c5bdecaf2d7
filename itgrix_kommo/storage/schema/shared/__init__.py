"""Revisions of the database that nodes share."""
