//! One line of output: a kind, a place, and fields, as JSON or as text.
//!
//! | kind | fields (besides `file` and `offset`) |
//! |---|---|
//! | `metadata` | `size`, `data` (hex) |
//! | `entry` | `index`, `term`, `type` (`normal`, `conf-change`, `conf-change-v2`), `size` (bytes of data) |
//! | `state` | `term`, `vote` (hex), `commit` |
//! | `crc` | `crc` (hex) |
//! | `snapshot` | `index`, `term`, `conf_state` (hex or null) |
//! | `end` | `torn` (what was cut off there, or null) |
//! | `error` | `error` (the whole message); `expected` and `found` (hex) for a CRC mismatch |

use std::fmt::Write;

use stanchion_wal::{Damage, End, Error, Position, Record};

/// A line in the making.
#[derive(Debug)]
pub(crate) struct Line {
    kind: &'static str,
    place: Option<(String, u64)>,
    fields: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(u64),
    Text(String),
    Null,
}

impl Line {
    pub(crate) fn record(position: Position, record: &Record) -> Self {
        let (kind, fields) = match record {
            Record::Metadata(data) => ("metadata", vec![("size", count(data.len())), ("data", hex(data))]),
            Record::Entry(entry) => (
                "entry",
                vec![
                    ("index", Value::Number(entry.index)),
                    ("term", Value::Number(entry.term)),
                    ("type", Value::Text(entry_type(entry.kind).to_owned())),
                    ("size", count(entry.data.len())),
                ],
            ),
            Record::State(state) => (
                "state",
                vec![
                    ("term", Value::Number(state.term)),
                    ("vote", Value::Text(format!("{:x}", state.vote))),
                    ("commit", Value::Number(state.commit)),
                ],
            ),
            Record::Crc(crc) => ("crc", vec![("crc", crc_value(*crc))]),
            Record::Snapshot(mark) => (
                "snapshot",
                vec![
                    ("index", Value::Number(mark.index)),
                    ("term", Value::Number(mark.term)),
                    ("conf_state", mark.conf_state.as_ref().map_or(Value::Null, |bytes| hex(bytes))),
                ],
            ),
            _ => ("unknown", Vec::new()),
        };
        Self { kind, place: Some((position.segment.to_string(), position.offset)), fields }
    }

    pub(crate) fn end(end: &End) -> Self {
        let torn = end.torn.map_or(Value::Null, |torn| Value::Text(torn.to_string()));
        let place = Some((end.position.segment.to_string(), end.position.offset));
        Self { kind: "end", place, fields: vec![("torn", torn)] }
    }

    pub(crate) fn error(error: &Error) -> Self {
        let place = match error {
            Error::Damaged { path, offset, .. } | Error::UnknownRecordType { path, offset, .. } => {
                path.file_name().map(|name| (name.to_string_lossy().into_owned(), *offset))
            }
            _ => None,
        };
        let mut fields = vec![("error", Value::Text(error.to_string()))];
        if let Error::Damaged { damage: Damage::Crc { expected, found }, .. } = error {
            fields.extend([("expected", crc_value(*expected)), ("found", crc_value(*found))]);
        }
        Self { kind: "error", place, fields }
    }

    pub(crate) fn to_json(&self) -> String {
        let mut out = format!("{{\"kind\":\"{}\"", self.kind);
        if let Some((file, offset)) = &self.place {
            let _ = write!(out, ",\"file\":{},\"offset\":{offset}", json_string(file));
        }
        for (name, value) in &self.fields {
            let _ = match value {
                Value::Number(n) => write!(out, ",\"{name}\":{n}"),
                Value::Text(text) => write!(out, ",\"{name}\":{}", json_string(text)),
                Value::Null => write!(out, ",\"{name}\":null"),
            };
        }
        out.push('}');
        out
    }

    pub(crate) fn to_text(&self) -> String {
        let mut out = match &self.place {
            Some((file, offset)) => format!("{file} {offset:>10} {:<8}", self.kind),
            None => self.kind.to_owned(),
        };
        for (name, value) in &self.fields {
            let _ = match value {
                Value::Number(n) => write!(out, " {name}={n}"),
                Value::Text(text) => write!(out, " {name}={text}"),
                Value::Null => Ok(()),
            };
        }
        out
    }
}

fn entry_type(kind: u8) -> &'static str {
    match kind {
        0 => "normal",
        1 => "conf-change",
        _ => "conf-change-v2",
    }
}

fn count(len: usize) -> Value {
    Value::Number(len as u64)
}

fn crc_value(crc: u32) -> Value {
    Value::Text(format!("{crc:08x}"))
}

fn hex(bytes: &[u8]) -> Value {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Value::Text(text)
}

fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            c if u32::from(c) < 0x20 => write!(out, "\\u{:04x}", u32::from(c)),
            c => write!(out, "{c}"),
        };
    }
    out.push('"');
    out
}
