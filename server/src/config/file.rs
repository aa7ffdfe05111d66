//! The config file: YAML, of which JSON is a subset. Keys are case-insensitive, unknown keys are ignored, durations
//! are integers in nanoseconds.

use serde_json::Value as Json;

use super::flags::{self, Flag, Kind};
use super::value::Value;

/// Reads the text of a config file into flag settings.
pub(crate) fn parse(text: &str) -> Result<Vec<(&'static str, Value)>, String> {
    let document: Json = if text.trim().is_empty() {
        Json::Null
    } else {
        serde_saphyr::from_str(text).map_err(|e| format!("error converting YAML to JSON: yaml: {e}"))?
    };
    let mut set = Vec::new();
    for flag in flags::all() {
        let Some(key) = flag.file_key else { continue };
        match lookup(&document, key) {
            None | Some(Json::Null) => {}
            Some(json) => set.push((flag.name, convert(flag, key, json)?)),
        }
    }
    Ok(set)
}

/// Follows a dotted key, ignoring case.
fn lookup<'a>(document: &'a Json, dotted: &str) -> Option<&'a Json> {
    dotted.split('.').try_fold(document, |json, key| {
        json.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    })
}

fn convert(flag: &Flag, key: &str, json: &Json) -> Result<Value, String> {
    let mismatch = |go_type: &str| {
        let found = match json {
            Json::String(_) => "string",
            Json::Number(_) => "number",
            Json::Bool(_) => "bool",
            Json::Array(_) => "array",
            _ => "object",
        };
        format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go struct field \
             configYAML.Config.{key} of type {go_type}"
        )
    };
    match flag.kind {
        Kind::Bool => json.as_bool().map(Value::Bool).ok_or_else(|| mismatch("bool")),
        Kind::Uint(bits) => match json.as_u64() {
            Some(n) if bits == 64 || n >> bits == 0 => Ok(Value::Uint(n)),
            _ => Err(mismatch(if bits == 32 { "uint32" } else { "uint" })),
        },
        Kind::Int => json.as_i64().map(Value::Int).ok_or_else(|| mismatch("int")),
        Kind::Duration => json.as_i64().map(Value::Duration).ok_or_else(|| mismatch("time.Duration")),
        Kind::List => strings(json).map(Value::List).ok_or_else(|| mismatch("[]string")),
        Kind::Urls => {
            let text = json.as_str().ok_or_else(|| mismatch("string"))?;
            Value::parse(flag.kind, text).map_err(|e| format!("unexpected error setting up {key}: {e}"))
        }
        Kind::Word(_) if flag.name == "initial-cluster-state" => {
            let text = json.as_str().ok_or_else(|| mismatch("string"))?;
            Value::parse(flag.kind, text).map_err(|_| format!("unexpected clusterState {text:?}"))
        }
        Kind::Text | Kind::Word(_) | Kind::Gates => {
            let text = json.as_str().ok_or_else(|| mismatch("string"))?;
            Value::parse(flag.kind, text)
        }
    }
}

fn strings(json: &Json) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(set: &'a [(&'static str, Value)], name: &str) -> &'a Value {
        &set.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} is not set")).1
    }

    #[test]
    fn reads_yaml_with_nested_maps_and_ignores_unknown_keys() {
        let set = parse(
            "name: 'm1'\nProxy: 'off'\nlog-outputs: [stderr, /tmp/x.log]\nheartbeat-interval: 50\n\
             watch-progress-notify-interval: 1000000000\nlisten-client-urls: http://127.0.0.1:2379,http://127.0.0.1:1\n\
             socket-options:\n  reuse-port: true\nwal-dir:\nclient-transport-security:\n  cert-file: /c.pem\n",
        )
        .unwrap();
        assert_eq!(get(&set, "name"), &Value::Text("m1".to_owned()));
        assert_eq!(get(&set, "heartbeat-interval"), &Value::Uint(50));
        assert_eq!(get(&set, "watch-progress-notify-interval"), &Value::Duration(1_000_000_000));
        assert_eq!(get(&set, "socket-reuse-port"), &Value::Bool(true));
        assert_eq!(get(&set, "cert-file"), &Value::Text("/c.pem".to_owned()));
        assert_eq!(
            get(&set, "listen-client-urls"),
            &Value::List(vec!["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2379".to_owned()])
        );
        assert!(!set.iter().any(|(n, _)| *n == "wal-dir"));
    }

    #[test]
    fn reads_json_and_any_case() {
        assert_eq!(get(&parse(r#"{"NAME": "x"}"#).unwrap(), "name"), &Value::Text("x".to_owned()));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_duration_is_a_number() {
        assert_eq!(
            parse("watch-progress-notify-interval: 10m").unwrap_err(),
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go struct field \
             configYAML.Config.watch-progress-notify-interval of type time.Duration"
        );
    }

    #[test]
    fn bad_words_and_urls_name_the_key() {
        assert_eq!(parse("initial-cluster-state: foo").unwrap_err(), "unexpected clusterState \"foo\"");
        assert!(
            parse("listen-client-urls: foo")
                .unwrap_err()
                .starts_with("unexpected error setting up listen-client-urls: URL")
        );
    }
}
