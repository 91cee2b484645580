"""Chaos: real processes, faults drawn from a seed, and the oracle's verdict on what every client got.

`proxy` stands on every hop and spoils it, `parts` are the processes, `publisher` publishes and keeps the log,
`clients` read, `faults` is the table of what goes wrong, `world` is all of them together, `run` runs it.
"""
