"""The command `itgrix-kommo`: a file for each group of its commands."""
