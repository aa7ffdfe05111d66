//! The `stanchion` binary.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use stanchion_server::config::{self, Command};
use stanchion_server::demo::{self, Demo};
use stanchion_server::serve;

/// Requests are allocated on one thread and let go on another all the time, which the system's allocator does not like.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let vars: Vec<(String, String)> = std::env::vars().collect();
    if let Some((first, rest)) = args.split_first()
        && first == "demo-cluster"
    {
        demo_cluster(rest);
    }
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

fn demo_cluster(args: &[String]) -> ! {
    let stopped = Demo::parse(args).and_then(|demo| match demo {
        Some(demo) => demo::run(&demo, &std::env::current_exe()?).map(Some),
        None => Ok(None),
    });
    match stopped {
        Ok(Some(stop)) => stop.exit(),
        Ok(None) => print!("{}", demo::USAGE),
        Err(error) => {
            eprintln!("stanchion: {error:#}");
            std::process::exit(1);
        }
    }
    std::process::exit(0)
}
