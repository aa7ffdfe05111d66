//! The texts of `--help` and `--version`.

use std::fmt::Write as _;

use super::ETCD_VERSION;
use super::flags::{Flag, Kind, SECTIONS};

/// Shown on stderr behind a malformed command line.
pub const USAGE: &str = "Usage:

  stanchion [flags]
    Start a member. Every flag of etcd's server is taken, with one dash or two,
    and as an environment variable ETCD_<FLAG>.

  stanchion --version
    Show the version.

  stanchion -h | --help
    Show all flags.

  stanchion --config-file
    Path to the server configuration file. Note that if a configuration file is
    provided, other command line flags and environment variables will be ignored.
";

/// The usage and every flag with its default.
pub(crate) fn text() -> String {
    let mut out = String::from(USAGE);
    for section in SECTIONS {
        let _ = write!(out, "\n{}:\n", section.title);
        for flag in section.flags {
            let _ = write!(out, "  --{}\n    {}\n", heading(flag), flag.help);
        }
    }
    out
}

fn heading(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (Kind::Text | Kind::Word(_) | Kind::List | Kind::Urls | Kind::Gates, default) => {
            format!("{} '{default}'", flag.name)
        }
        (_, default) => format!("{} {default}", flag.name),
    }
}

/// Four lines in etcd's form; tools read the first.
pub(crate) fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: stanchion-{}\nGo Version: none (Rust)\nGo OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    )
}
