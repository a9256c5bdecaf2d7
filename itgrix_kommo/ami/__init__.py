"""The link to Asterisk: bytes to frames (`codec`), frames to events (`decode`), the connection's life (`link`)."""
