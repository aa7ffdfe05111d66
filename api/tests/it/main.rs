//! The API as seen on the wire and in JSON.

#[cfg(feature = "json")]
mod json;
mod raft_request;
mod wire;
