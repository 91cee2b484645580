"""The journal on disk: what the state service has published, so that positions outlive it."""

from bridge.store.journal.journal import Journal
from bridge.store.journal.types import Declared, JournalLimits, Record, StoredPage, Sync

__all__ = ["Declared", "Journal", "JournalLimits", "Record", "StoredPage", "Sync"]
