//! The lessor from outside: its rules one by one, a model under random operations, and its memory.

mod memory;
mod model;
mod rules;
mod world;
