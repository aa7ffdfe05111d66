//! Only benches live here: `cargo bench` in this folder.
