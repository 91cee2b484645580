"""What an operator sees of a running bridge: logs and metrics."""
