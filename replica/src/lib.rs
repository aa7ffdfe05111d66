//! One member's deterministic core: raft, storage and apply, without I/O of its own.
