//! The server from outside.

mod answering;
mod cluster;
mod front;
mod system;
