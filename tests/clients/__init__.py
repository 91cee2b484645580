"""The clients in docs/clients, built and run against real processes."""
