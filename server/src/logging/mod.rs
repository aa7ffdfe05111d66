//! Log lines in the form etcd's operators and harnesses read, written where the request paths cannot wait for them.
//!
//! Every line goes through a bounded queue to a writer thread; when the sink is slow the queue fills and lines are
//! lost, never latency. The number of lost lines is known ([`Control::lost_lines`]).

mod line;
mod sampling;

use std::fs::OpenOptions;
use std::io::{self, Write};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

pub use line::Format;

/// Lines that may wait for a slow sink.
const QUEUE_LINES: usize = 16_384;

/// Keeps logging alive; dropping it writes out what is queued.
pub struct Logging {
    _guard: WorkerGuard,
    control: Control,
}

/// What can be seen and changed of logging while it runs.
#[derive(Clone)]
pub struct Control {
    lost: ErrorCounter,
    level: reload::Handle<LevelFilter, Registry>,
}

/// The level of this name (any case), or `None`. zap's levels above `error` exist only as thresholds here.
#[must_use]
pub fn parse_level(name: &str) -> Option<LevelFilter> {
    Some(match name.to_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
        _ => return None,
    })
}

impl Logging {
    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// A log file cannot be opened, or logging was started before.
    pub fn start(outputs: &[String], format: Format, level: LevelFilter) -> io::Result<Self> {
        let (writer, guard) = queue(Sinks::open(outputs)?, QUEUE_LINES);
        let lost = writer.error_counter();
        let (filter, handle) = reload::Layer::new(level);
        let layer = fmt::layer()
            .event_format(line::ZapFormat::new(format))
            .with_writer(writer)
            .with_filter(sampling::Sampling::default());
        tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(io::Error::other)?;
        Ok(Self { _guard: guard, control: Control { lost, level: handle } })
    }

    /// What can be seen and changed from now on.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

/// A writer that never waits: `lines` may be on their way to `sink`, more are lost and counted.
fn queue(sink: impl Write + Send + 'static, lines: usize) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(lines).lossy(true).finish(sink)
}

impl Control {
    /// Changes the level while running.
    ///
    /// # Errors
    /// The level's name is unknown, or logging has ended.
    pub fn set_level(&self, name: &str) -> Result<(), String> {
        let level = parse_level(name).ok_or_else(|| format!("unrecognized level: {name:?}"))?;
        self.level.reload(level).map_err(|e| e.to_string())
    }

    /// Lines lost because the sink was slower than the queue is long.
    #[must_use]
    pub fn lost_lines(&self) -> usize {
        self.lost.dropped_lines()
    }
}

/// All targets of `--log-outputs`.
struct Sinks(Vec<Box<dyn Write + Send>>);

impl Sinks {
    fn open(outputs: &[String]) -> io::Result<Self> {
        // etcd: `/dev/null` discards everything, also what would go to the other targets.
        if outputs.iter().any(|output| output == "/dev/null") {
            return Ok(Self(Vec::new()));
        }
        let mut sinks: Vec<Box<dyn Write + Send>> = Vec::new();
        for output in outputs {
            sinks.push(match output.as_str() {
                "default" | "stderr" => Box::new(io::stderr()),
                "stdout" => Box::new(io::stdout()),
                path => {
                    Box::new(OpenOptions::new().append(true).create(true).open(path).map_err(|e| {
                        io::Error::new(e.kind(), format!("cannot open log output {path}: {e}"))
                    })?)
                }
            });
        }
        Ok(Self(sinks))
    }
}

impl Write for Sinks {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for sink in &mut self.0 {
            // A target that fails must not silence the others.
            let _ = sink.write_all(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        for sink in &mut self.0 {
            let _ = sink.flush();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes one line and says so, then waits until it may go on; after that it takes everything.
    struct Stalled {
        reached: Sender<()>,
        go_on: Receiver<()>,
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.reached.send(());
            let _ = self.go_on.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_sink_costs_lines_and_they_are_counted() {
        let (reached, stalled) = channel();
        let (release, go_on) = channel();
        let (mut writer, guard) = queue(Stalled { reached, go_on }, 10);
        writer.write_all(b"taken\n").unwrap();
        stalled.recv().unwrap();
        // The sink waits for ever now; whoever writes does not.
        for _ in 0..10 + 7 {
            writer.write_all(b"queued or lost\n").unwrap();
        }
        assert_eq!(writer.error_counter().dropped_lines(), 7);
        drop(release);
        drop(guard);
    }

    #[test]
    fn levels_by_name_in_any_case() {
        assert_eq!(parse_level("DEBUG"), Some(LevelFilter::DEBUG));
        assert_eq!(parse_level("fatal"), Some(LevelFilter::ERROR));
        assert_eq!(parse_level("loud"), None);
    }

    #[test]
    fn a_file_gets_the_line_and_dev_null_silences_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let outputs = vec![path.to_str().unwrap().to_owned()];
        Sinks::open(&outputs).unwrap().write_all(b"a\n").unwrap();
        Sinks::open(&outputs).unwrap().write_all(b"b\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
        let silent = [outputs[0].clone(), "/dev/null".to_owned()];
        Sinks::open(&silent).unwrap().write_all(b"c\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
        let err = Sinks::open(&["/nonexistent/x.log".to_owned()]).err().unwrap();
        assert!(err.to_string().starts_with("cannot open log output /nonexistent/x.log: "), "{err}");
    }
}
