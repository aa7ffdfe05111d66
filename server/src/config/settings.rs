//! All flags with their values, explicit or default; the step between the sources and the typed [`super::Config`].

use std::collections::BTreeMap;

use super::flags;
use super::value::Value;

/// One value per flag.
pub(crate) struct Settings {
    explicit: BTreeMap<&'static str, Value>,
    /// The values come from a config file.
    pub(crate) from_file: bool,
}

impl Settings {
    pub(crate) fn new(set: Vec<(&'static str, Value)>, from_file: bool) -> Self {
        Self { explicit: set.into_iter().collect(), from_file }
    }

    /// Whether the operator set this flag.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.explicit.contains_key(name)
    }

    /// The value of a flag that exists. Asking for an unknown name is a mistake in this program, not in its input.
    pub(crate) fn get(&self, name: &str) -> Value {
        if let Some(value) = self.explicit.get(name) {
            return value.clone();
        }
        let flag = flags::find(name).unwrap_or_else(|| panic!("no flag {name}"));
        // A test parses every default.
        Value::parse(flag.kind, flag.default).unwrap_or_else(|e| panic!("default of {name}: {e}"))
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        match self.get(name) {
            Value::Bool(on) => on,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn uint(&self, name: &str) -> u64 {
        match self.get(name) {
            Value::Uint(n) => n,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            Value::Int(n) => n,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn nanos(&self, name: &str) -> i64 {
        match self.get(name) {
            Value::Duration(n) => n,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        match self.get(name) {
            Value::Text(text) => text,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Value::List(list) => list,
            other => panic!("{name} is {other:?}"),
        }
    }
}
