//! The `stanchion` binary.
#![allow(clippy::print_stderr)]

fn main() {
    eprintln!("stanchion: the server is not built yet");
    std::process::exit(1);
}
