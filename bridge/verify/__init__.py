"""Verify: judges a bridge from outside, by what was published and what clients got.

`oracle` says whether every client got everything, once and in order; `log`, `frames`, `judge` and `books` are its
parts. `reference` finds out what was published, `visitor` is a client that is cut off and comes back, `run` has them
judge a live bridge. Nothing here is shared with the rest of the bridge.
"""
