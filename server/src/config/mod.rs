//! Configuration: command line, environment and config file, with etcd's names, precedence and errors.
//!
//! A config file switches off every other flag and every variable; otherwise a flag beats its variable's absence, and
//! both together are refused. Everything ends in one typed [`Config`]; no other part of the server reads flags.
//! [`load`] is a function of its arguments: it touches neither the process's environment nor its arguments itself.

mod args;
mod duration;
mod env;
mod file;
mod flags;
mod gates;
mod help;
mod settings;
mod typed;
mod urls;
mod validate;
mod value;

use std::fmt;
use std::path::Path;

pub use duration::format as format_duration;
pub use gates::{FeatureGates, GATES, Stage};
pub use help::USAGE;
pub use typed::{AutoCompaction, Config};
pub use urls::Endpoint;

use settings::Settings;

/// The etcd release whose behaviour this server keeps and reports.
pub const ETCD_VERSION: &str = "3.7.1";

/// Why the process must stop before it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// etcd's text.
    pub message: String,
    /// Further facts for the log line.
    pub fields: Vec<(&'static str, String)>,
    /// 2 for a malformed command line, 1 for everything else.
    pub exit_code: i32,
    /// Print to stderr with the usage behind it, instead of logging.
    pub show_usage: bool,
}

impl Refusal {
    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), fields: Vec::new(), exit_code: 2, show_usage: true }
    }

    fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), fields: Vec::new(), exit_code: 1, show_usage: false }
    }

    /// A failed check of the finished configuration.
    fn verify(error: impl Into<String>) -> Self {
        Self::fatal("failed to verify flags").with("error", error.into())
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((key, value.into()));
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (key, value) in &self.fields {
            write!(f, "; {key}: {value}")?;
        }
        if self.show_usage { write!(f, "\n{USAGE}") } else { Ok(()) }
    }
}

/// A line to log once logging is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Warning, or information.
    pub warning: bool,
    /// etcd's text.
    pub message: String,
    /// Fields in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    fn info(message: impl Into<String>) -> Self {
        Self { warning: false, message: message.into(), fields: Vec::new() }
    }

    fn warn(message: impl Into<String>) -> Self {
        Self { warning: true, message: message.into(), fields: Vec::new() }
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((key, value.into()));
        self
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Start a member.
    Serve {
        /// The checked configuration.
        config: Box<Config>,
        /// To be logged first.
        notices: Vec<Notice>,
    },
    /// Print this on stdout and exit with 0.
    Print(String),
}

/// Reads the configuration from `args` (without the program's name) and the environment `vars`.
///
/// # Errors
/// A [`Refusal`] with etcd's text and exit code.
pub fn load(args: &[String], vars: &[(String, String)]) -> Result<Command, Refusal> {
    if let Some(mode @ ("gateway" | "grpc-proxy")) = args.first().map(String::as_str) {
        return Err(Refusal::fatal(format!(
            "{mode} mode is not part of this server: run `etcd {mode}` from an etcd release beside it"
        )));
    }
    let parsed = args::parse(args)?;
    if parsed.help {
        return Ok(Command::Print(help::text()));
    }
    if parsed.set.contains(&("version", value::Value::Bool(true))) {
        return Ok(Command::Print(help::version()));
    }
    let mut notices = Vec::new();
    let settings = match config_file(&parsed, vars) {
        Some(path) => {
            notices.push(
                Notice::info(
                    "loaded server configuration, other configuration command line flags and environment variables \
                     will be ignored if provided",
                )
                .with("path", path.clone()),
            );
            Settings::new(read_file(Path::new(&path))?, true)
        }
        None => {
            let from_env =
                env::apply(vars, |flag| parsed.set.iter().any(|(set, _)| *set == flag), &mut notices)?;
            Settings::new(parsed.set.into_iter().chain(from_env).collect(), false)
        }
    };
    if let Some(word) = parsed.positional.first() {
        return Err(Refusal::verify(format!("{word:?} is not a valid flag")));
    }
    let config = Config::from_settings(&settings)?;
    validate::check(&config, &settings, &mut notices)?;
    Ok(Command::Serve { config: Box::new(config), notices })
}

fn config_file(parsed: &args::Args, vars: &[(String, String)]) -> Option<String> {
    let from_flag = parsed.set.iter().find_map(|(name, value)| match value {
        value::Value::Text(path) if *name == "config-file" => Some(path.clone()),
        _ => None,
    });
    let from_env = || vars.iter().find(|(var, _)| var == "ETCD_CONFIG_FILE").map(|(_, path)| path.clone());
    from_flag.or_else(from_env).filter(|path| !path.is_empty())
}

fn read_file(path: &Path) -> Result<Vec<(&'static str, value::Value)>, Refusal> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Refusal::verify(format!("open {}: {e}", path.display())))?;
    file::parse(&text).map_err(|e| Refusal::verify(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let refusal = Refusal::verify("--heartbeat-interval must be >0 (set to 0ms)");
        assert_eq!(
            refusal.to_string(),
            "failed to verify flags; error: --heartbeat-interval must be >0 (set to 0ms)"
        );
        let usage = Refusal::usage("flag provided but not defined: -x").to_string();
        assert!(usage.starts_with("flag provided but not defined: -x\nUsage:"), "{usage}");
    }
}
