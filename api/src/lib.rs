//! The etcd v3 API: protobuf messages and, as a feature, gRPC stubs.
