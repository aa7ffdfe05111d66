//! Watchers in an interval tree: synced, unsynced and victim groups.
