//! Integration tests of the public API.

mod crash;
mod model;
mod shrink;
