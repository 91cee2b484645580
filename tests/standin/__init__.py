"""A stand-in for a The Block node: a clocked model behind real sockets, with the real node's bad manners.

Everything it says and does was measured on a running node; ``recordings/`` holds the answers of that node that the
model is made of, and ``tests/test_standin.py`` holds the model to them. Use it from a test::

    from tests.standin.chain import Chain
    from tests.standin.node import StandinNode

    async with StandinNode(Chain(), blocks_per_second=10) as node:
        node.url                      # http://127.0.0.1:<port>
        node.chain.mine(2, txs=3)     # two more blocks of three transactions each
        node.requests.count()         # what the client under test has asked so far

or by hand: ``python -m tests.standin.node --port 3030 --blocks-per-second 1``.
"""
