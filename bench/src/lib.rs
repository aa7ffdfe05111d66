//! Load generator and side-by-side comparison for etcd v3 endpoints.
