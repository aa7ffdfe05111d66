//! One log line: `level, ts, logger, caller, msg`, then the fields in call order, as zap writes them.

use std::fmt::{self, Write as _};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A field whose value is a JSON list of pairs, `[[name, text], …]`: each becomes a field of the line. For lines whose field names are known
/// at run time only.
pub(crate) const MORE_FIELDS: &str = "more_fields";

/// The two forms of `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Tab-separated columns and one JSON object with the fields.
    Console,
}

/// Writes events in etcd's form.
pub(super) struct ZapFormat {
    format: Format,
}

impl ZapFormat {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }
}

impl<S, N> FormatEvent<S, N> for ZapFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let caller = caller(meta.file().unwrap_or("unknown"), meta.line().unwrap_or(0));
        let text = render(self.format, OffsetDateTime::now_utc(), *meta.level(), &caller, &fields);
        out.write_str(&text)
    }
}

/// etcd's callers are `package/file.go:line`: the last folder and the file.
fn caller(file: &str, line: u32) -> String {
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    let name = parts.next().unwrap_or(file);
    match parts.next() {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

fn render(format: Format, now: OffsetDateTime, level: Level, caller: &str, fields: &Fields) -> String {
    let ts = now.format(TIMESTAMP).unwrap_or_default();
    let level = level_name(level);
    let mut out = String::with_capacity(160);
    match format {
        Format::Json => {
            let _ = write!(out, "{{\"level\":\"{level}\",\"ts\":\"{ts}\"");
            if let Some(logger) = &fields.logger {
                let _ = write!(out, ",\"logger\":{}", quoted(logger));
            }
            let _ = write!(out, ",\"caller\":{},\"msg\":{}", quoted(caller), quoted(&fields.message));
            if !fields.json.is_empty() {
                let _ = write!(out, ",{}", fields.json);
            }
            out.push_str("}\n");
        }
        Format::Console => {
            let _ = write!(out, "{ts}\t{level}\t");
            if let Some(logger) = &fields.logger {
                let _ = write!(out, "{logger}\t");
            }
            let _ = write!(out, "{caller}\t{}", fields.message);
            if !fields.json.is_empty() {
                let _ = write!(out, "\t{{{}}}", fields.json);
            }
            out.push('\n');
        }
    }
    out
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The fields of an event: `message` is the text, `logger` names the logger, the rest is JSON in call order.
#[derive(Default)]
struct Fields {
    message: String,
    logger: Option<String>,
    json: String,
}

impl Fields {
    fn push_members(&mut self, pairs: &str) {
        match serde_json::from_str::<Vec<(String, String)>>(pairs) {
            Ok(members) => members.iter().for_each(|(name, value)| self.push(name, &quoted(value))),
            Err(_) => self.push(MORE_FIELDS, &quoted(pairs)),
        }
    }

    fn push(&mut self, name: &str, json: &str) {
        if !self.json.is_empty() {
            self.json.push(',');
        }
        let _ = write!(self.json, "{}:{json}", quoted(name));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "logger" => self.logger = Some(value.to_owned()),
            MORE_FIELDS => self.push_members(value),
            name => self.push(name, &quoted(value)),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), if value { "true" } else { "false" });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), &serde_json::Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn fields() -> Fields {
        Fields { message: "say \"hi\"".to_owned(), logger: None, json: r#""took":"1.2ms","n":3"#.to_owned() }
    }

    #[test]
    fn json_has_zaps_keys_in_order() {
        let now = datetime!(2026-11-21 04:46:31.071942 UTC);
        assert_eq!(
            render(Format::Json, now, Level::INFO, "server/serve.rs:282", &fields()),
            "{\"level\":\"info\",\"ts\":\"2026-11-21T04:46:31.071942Z\",\"caller\":\"server/serve.rs:282\",\
             \"msg\":\"say \\\"hi\\\"\",\"took\":\"1.2ms\",\"n\":3}\n"
        );
        let named = Fields { logger: Some("raft".to_owned()), ..Fields::default() };
        assert_eq!(
            render(Format::Json, now, Level::WARN, "a:1", &named),
            "{\"level\":\"warn\",\"ts\":\"2026-11-21T04:46:31.071942Z\",\"logger\":\"raft\",\"caller\":\"a:1\",\
             \"msg\":\"\"}\n"
        );
    }

    #[test]
    fn names_known_at_run_time_become_fields() {
        let mut fields = Fields::default();
        fields.push_members(r#"[["data-dir","d\"x"],["n","1"]]"#);
        assert_eq!(fields.json, r#""data-dir":"d\"x","n":"1""#);
        let mut other = Fields::default();
        other.push_members("no JSON");
        assert_eq!(other.json, r#""more_fields":"no JSON""#);
    }

    #[test]
    fn console_is_tab_separated() {
        let now = datetime!(2026-11-21 04:46:31 UTC);
        assert_eq!(
            render(Format::Console, now, Level::ERROR, "a:1", &fields()),
            "2026-11-21T04:46:31.000000Z\terror\ta:1\tsay \"hi\"\t{\"took\":\"1.2ms\",\"n\":3}\n"
        );
    }

    #[test]
    fn callers_are_folder_and_file() {
        assert_eq!(caller("server/src/main.rs", 7), "server/main.rs:7");
        assert_eq!(caller("server/src/front/kv.rs", 7), "front/kv.rs:7");
    }
}
