//! Snapshot files and received databases, byte-compatible with etcd's.
