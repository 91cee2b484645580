"""What all tests share."""

from hypothesis import settings

# The same examples in every run, and none fails for having taken long: a machine may be busy.
settings.register_profile("theblock-bridge", derandomize=True, deadline=None)
settings.load_profile("theblock-bridge")
