"""The registration of one ended call."""
