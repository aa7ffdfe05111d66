//! Raft consensus as a pure state machine, wire-compatible with etcd's.
