"""What browsers load: the client in `client/`, plain ES modules that need nothing else."""
