"""The heart: what Asterisk's events mean. No IO, no clock, no asyncio, no Kommo."""
