"""theblock-bridge: turns a blockchain node's state into live dashboards."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("theblock-bridge")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"
