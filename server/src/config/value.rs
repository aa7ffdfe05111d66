//! Values of flags: how each kind's text is read. Error texts are Go's.

use super::duration::{self, Nanos};
use super::flags::Kind;
use super::urls;

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Uint(u64),
    Int(i64),
    Duration(Nanos),
    Text(String),
    List(Vec<String>),
}

impl Value {
    /// Reads the command-line or environment spelling of a value.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        Ok(match kind {
            Kind::Bool => Self::Bool(parse_bool(text).ok_or("parse error")?),
            Kind::Uint(bits) => Self::Uint(parse_uint(text, bits)?),
            Kind::Int => Self::Int(parse_int(text)?),
            Kind::Duration => Self::Duration(duration::parse(text).map_err(|_| "parse error".to_owned())?),
            Kind::Text => Self::Text(text.to_owned()),
            Kind::Word(words) if words.contains(&text) => Self::Text(text.to_owned()),
            Kind::Word(_) => return Err(format!("invalid value {text:?}")),
            Kind::List => Self::List(split(text)),
            Kind::Urls => Self::List(urls::normalize(&split(text))?),
            Kind::Gates => {
                super::gates::parse(text)?;
                Self::Text(text.to_owned())
            }
        })
    }
}

fn split(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
}

/// Go's boolean words.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// An integer literal in Go syntax: base prefixes, and `_` between digits.
fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let (base, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'b' | b'B', ..] => (2, &text[2..]),
        [b'0', b'o' | b'O', ..] => (8, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    let prefixed = digits.len() < text.len();
    let underscores_ok =
        !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'));
    if !underscores_ok || digits.starts_with('+') {
        return Err("parse error".to_owned());
    }
    match u64::from_str_radix(&digits.replace('_', ""), base) {
        Ok(n) if bits == 64 || n >> bits == 0 => Ok(n),
        Ok(_) => Err("value out of range".to_owned()),
        Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => Err("value out of range".to_owned()),
        Err(_) => Err("parse error".to_owned()),
    }
}

fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let n = i128::from(parse_uint(digits, 64)?);
    i64::try_from(if negative { -n } else { n }).map_err(|_| "value out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_go_prefixes() {
        for (text, n) in [("0x10", 16), ("0b1", 1), ("0o7", 7), ("017", 15), ("1_000", 1000), ("0", 0)] {
            assert_eq!(parse_uint(text, 64), Ok(n), "{text}");
        }
        for text in ["", "abc", "1__0", "1_", "_1", "-1", "+1", "08", "1.5", "0x"] {
            assert_eq!(parse_uint(text, 64), Err("parse error".to_owned()), "{text}");
        }
        assert_eq!(parse_uint("4294967296", 32), Err("value out of range".to_owned()));
        assert_eq!(parse_int("-5"), Ok(-5));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err("value out of range".to_owned()));
    }

    #[test]
    fn words_are_checked() {
        let kind = Kind::Word(&["new", "existing"]);
        assert_eq!(Value::parse(kind, "foo").unwrap_err(), "invalid value \"foo\"");
        assert_eq!(Value::parse(kind, "new"), Ok(Value::Text("new".to_owned())));
    }
}
