"""The REST client of Kommo's API v4: nothing of Asterisk, nothing of what a call is."""
