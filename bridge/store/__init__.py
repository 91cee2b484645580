"""Store: what is kept on disk."""
