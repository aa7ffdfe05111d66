//! A segmented, CRC-chained write-ahead log, byte-compatible with etcd's.
