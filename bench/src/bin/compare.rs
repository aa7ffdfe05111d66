//! Servers side by side; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stanchion_bench::compare::main(std::env::args_os(), &mut std::io::stdout(), &mut std::io::stderr())
}
