"""Sources: where updates come from."""
