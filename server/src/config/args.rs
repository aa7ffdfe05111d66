//! The command line, by the rules of Go's `flag` package: `-x` and `--x` are the same, `--x=v` or `--x v`, booleans
//! take a value only in the `=` form, parsing stops at the first positional argument or at `--`.

use super::Refusal;
use super::flags::{self, Flag, Kind};
use super::value::{Value, parse_bool};

/// What the command line said.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Args {
    /// Explicitly set flags; the last setting of a flag is the only one here.
    pub(crate) set: Vec<(&'static str, Value)>,
    /// `-h` or `--help` was there.
    pub(crate) help: bool,
    /// What stood behind the flags.
    pub(crate) positional: Vec<String>,
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(args: &[String]) -> Result<Args, Refusal> {
    let mut out = Args::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            break;
        }
        let Some(body) = flag_body(arg)? else {
            out.positional.push(arg.clone());
            break;
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if name == "h" || name == "help" {
            out.help = true;
            return Ok(out);
        }
        if flags::IGNORED.contains(&name) {
            check_ignored(name, inline)?;
            continue;
        }
        let flag = flags::find(name)
            .ok_or_else(|| Refusal::usage(format!("flag provided but not defined: -{name}")))?;
        let text = match (flag.kind, inline) {
            (_, Some(value)) => value,
            (Kind::Bool, None) => "true",
            (_, None) => {
                rest.next().ok_or_else(|| Refusal::usage(format!("flag needs an argument: -{name}")))?
            }
        };
        let value = parse_value(flag, text)?;
        out.set.retain(|(set, _)| *set != flag.name);
        out.set.push((flag.name, value));
    }
    out.positional.extend(rest.cloned());
    Ok(out)
}

/// `--x=v` → `x=v`; `None` for a positional argument.
fn flag_body(arg: &str) -> Result<Option<&str>, Refusal> {
    let Some(one) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let body = one.strip_prefix('-').unwrap_or(one);
    if body.is_empty() || body.starts_with('-') || body.starts_with('=') {
        return Err(Refusal::usage(format!("bad flag syntax: {arg}")));
    }
    Ok(Some(body))
}

fn check_ignored(name: &str, inline: Option<&str>) -> Result<(), Refusal> {
    match inline {
        Some(value) if parse_bool(value).is_none() => Err(invalid(name, value, true, "parse error")),
        _ => Ok(()),
    }
}

fn parse_value(flag: &Flag, text: &str) -> Result<Value, Refusal> {
    Value::parse(flag.kind, text).map_err(|e| invalid(flag.name, text, flag.kind == Kind::Bool, &e))
}

fn invalid(name: &str, text: &str, boolean: bool, error: &str) -> Refusal {
    let word = if boolean { "boolean value" } else { "value" };
    let preposition = if boolean { "for -" } else { "for flag -" };
    Refusal::usage(format!("invalid {word} {text:?} {preposition}{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Args, Refusal> {
        parse(&args.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn both_dashes_both_forms_and_the_last_one_wins() {
        let args = run(&["-name", "a", "--name=b", "--pre-vote=false", "--force-new-cluster"]).unwrap();
        assert_eq!(
            args.set,
            [("name", text("b")), ("pre-vote", Value::Bool(false)), ("force-new-cluster", Value::Bool(true))]
        );
    }

    #[test]
    fn a_boolean_leaves_its_word_as_a_positional_argument() {
        let args = run(&["--pre-vote", "true", "--name=x"]).unwrap();
        assert_eq!(args.positional, ["true", "--name=x"]);
        assert_eq!(run(&["--", "-x"]).unwrap().positional, ["-x"]);
    }

    #[test]
    fn refuses_with_gos_words_and_exit_code_2() {
        for (args, message) in [
            (&["--nope"][..], "flag provided but not defined: -nope"),
            (
                &["--heartbeat-interval=abc"],
                "invalid value \"abc\" for flag -heartbeat-interval: parse error",
            ),
            (&["--config-file"], "flag needs an argument: -config-file"),
            (&["--pre-vote=maybe"], "invalid boolean value \"maybe\" for -pre-vote: parse error"),
            (
                &["--initial-cluster-state", "foo"],
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value \"foo\"",
            ),
            (&["---x"], "bad flag syntax: ---x"),
        ] {
            let refusal = run(args).unwrap_err();
            assert_eq!((refusal.message.as_str(), refusal.exit_code), (message, 2), "{args:?}");
            assert!(refusal.show_usage);
        }
    }

    #[test]
    fn obsolete_flags_are_ignored() {
        assert_eq!(run(&["-snapshot", "-vv=true"]).unwrap(), Args::default());
    }
}
