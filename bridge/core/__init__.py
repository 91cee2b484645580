"""The core: streams, positions, histories, sessions. No I/O, no clock."""
