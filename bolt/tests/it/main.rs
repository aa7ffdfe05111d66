//! Integration tests of the public API.

mod crash;
mod errors;
mod model;
mod ops;
mod shrink;
mod threads;
