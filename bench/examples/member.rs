//! A member for this crate's tests, which cannot name the binary of another package: what `stanchion` does with its flags.
#![allow(clippy::print_stderr)]

use stanchion_server::config::{self, Command};
use stanchion_server::serve;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let loaded = config::load(&args, &[]);
    let Ok(Command::Serve { config, notices }) = loaded else {
        eprintln!("not the flags of a member: {args:?}");
        std::process::exit(1);
    };
    match serve::run(&config, &notices) {
        Ok(stop) => stop.exit(),
        Err(error) => {
            eprintln!("member: {error:#}");
            std::process::exit(1);
        }
    }
}
