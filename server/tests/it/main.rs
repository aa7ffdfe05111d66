//! The server from outside.

mod front;
