//! The server from outside.

mod front;
mod system;
