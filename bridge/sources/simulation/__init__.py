"""The simulated node: a chain, a market and the weather that moves them, pure and seeded."""
