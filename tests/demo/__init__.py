"""The demonstration behind scripts/demo: calls on a real Asterisk become rows in an invented Kommo account.

`calls` says what is placed and what must come of it, `pbx` where it is placed (a real Asterisk, or the record of one),
`daemon` runs the connector as a process of its own, `ledger` reads back what Kommo holds and compares, `screen` shows
all of it.
`python -m tests.demo --record` renews calls.trace, which is played where no Asterisk can be had.
"""
