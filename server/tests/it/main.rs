//! The server from outside.

mod cluster;
mod front;
mod system;
