//! `ETCD_*` environment variables.

use super::flags::{self, env_name};
use super::value::Value;
use super::{Notice, Refusal};

/// Reads the variables into flag settings. `on_command_line` tells which flags are set already: one flag set in both
/// places is refused, even with equal values.
pub(crate) fn apply(
    vars: &[(String, String)],
    on_command_line: impl Fn(&str) -> bool,
    notices: &mut Vec<Notice>,
) -> Result<Vec<(&'static str, Value)>, Refusal> {
    let mut set = Vec::new();
    for flag in flags::all().filter(|flag| flag.name != "version") {
        let name = env_name(flag.name);
        let Some((_, text)) = vars.iter().find(|(var, text)| *var == name && !text.is_empty()) else {
            continue;
        };
        if on_command_line(flag.name) {
            return Err(Refusal::fatal(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag))",
            )
            .with("environment-variable", name));
        }
        let value = Value::parse(flag.kind, text)
            .map_err(|e| Refusal::fatal(format!("invalid value {text:?} for {name}: {e}")))?;
        notices.push(
            Notice::info("recognized and used environment variable")
                .with("variable-name", name)
                .with("variable-value", text.clone()),
        );
        set.push((flag.name, value));
    }
    for (var, text) in vars.iter().filter(|(var, _)| var.starts_with("ETCD_")) {
        if var == "ETCD_VERSION" {
            notices.push(
                Notice::warn("cannot set special environment variable")
                    .with("key", var.clone())
                    .with("value", text.clone()),
            );
        } else if !flags::all().any(|flag| env_name(flag.name) == *var) {
            notices.push(
                Notice::warn("unrecognized environment variable")
                    .with("environment-variable", format!("{var}={text}")),
            );
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn used_empty_and_unknown_variables() {
        let mut notices = Vec::new();
        let vars = vars(&[("ETCD_NAME", "m1"), ("ETCD_DATA_DIR", ""), ("ETCD_FOO", "bar"), ("HOME", "/")]);
        let set = apply(&vars, |_| false, &mut notices).unwrap();
        assert_eq!(set, [("name", Value::Text("m1".to_owned()))]);
        let messages: Vec<_> = notices.iter().map(|n| n.message.as_str()).collect();
        assert_eq!(
            messages,
            ["recognized and used environment variable", "unrecognized environment variable"]
        );
        assert_eq!(notices[1].fields, [("environment-variable", "ETCD_FOO=bar".to_owned())]);
    }

    #[test]
    fn a_flag_and_its_variable_together_are_refused() {
        let err = apply(&vars(&[("ETCD_NAME", "m1")]), |f| f == "name", &mut Vec::new()).unwrap_err();
        assert!(err.message.starts_with("conflicting environment variable"));
        assert_eq!(err.exit_code, 1);
    }

    #[test]
    fn a_bad_value_names_the_variable() {
        let err =
            apply(&vars(&[("ETCD_HEARTBEAT_INTERVAL", "abc")]), |_| false, &mut Vec::new()).unwrap_err();
        assert_eq!(err.message, "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error");
    }
}
