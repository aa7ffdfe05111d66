//! The `stanchion` binary.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use stanchion_server::config::{self, Command};
use stanchion_server::serve;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let vars: Vec<(String, String)> = std::env::vars().collect();
    match config::load(&args, &vars) {
        Ok(Command::Print(text)) => print!("{text}"),
        Ok(Command::Serve { config, notices }) => match serve::run(&config, &notices) {
            Ok(stop) => stop.exit(),
            Err(error) => {
                eprintln!("stanchion: {error:#}");
                std::process::exit(1);
            }
        },
        Err(refusal) => {
            eprintln!("{refusal}");
            std::process::exit(refusal.exit_code);
        }
    }
}
