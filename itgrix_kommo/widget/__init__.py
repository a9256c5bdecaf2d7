"""The widget that makes phone numbers in Kommo a click away: its sources, and the zip that Kommo takes."""
