//! A multi-version key-value store over a bbolt file, byte-compatible with etcd's.
