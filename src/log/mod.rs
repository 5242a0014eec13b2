//! The writers of the access log and the audit log, and the application log's set-up.

mod audit;
mod panic;
mod writer;

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use audit::{AuditLog, AuditWriter};
pub use panic::report_panics;

use writer::{Channel, Output, Writer};

/// `[log]`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Where access lines go.
    pub access: AccessLog,
    /// Where audit lines go.
    pub audit: AuditLog,
    /// Form of the application log on stderr.
    pub format: LogFormat,
    /// `tracing` directives. Default `info`.
    pub level: String,
}

/// Where access lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output (default).
    Stdout,
    /// Appended to a file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Form of the application log on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere (default).
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The one thread that writes access lines. Workers hand it whole buffers and never wait for it.
#[derive(Debug)]
pub struct AccessWriter(Writer);

/// Asks the writer to open its file anew.
#[derive(Debug, Clone)]
pub struct Reopener(crossbeam_channel::Sender<()>);

/// One worker's access lines that have not been handed to the writer. Not shared between threads; handed over when dropped.
#[derive(Debug)]
pub struct AccessBuffer {
    /// `None` when access lines are off.
    channel: Option<Channel>,
    lines: RefCell<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

/// The application log. Dropped, it waits a moment for its last lines.
#[derive(Debug)]
pub struct ApplicationLog {
    events: Writer,
    audit: Writer,
}

/// Where the application log adds the lines that were lost, because its reader is behind or gone.
#[derive(Debug, Clone, Default)]
pub struct LostLines {
    /// All but those of the audit.
    pub events: Arc<AtomicU64>,
    /// Those of the audit.
    pub audit: Arc<AtomicU64>,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.access` or `log.audit` names a file that cannot be appended to.
    #[error("`{key}` cannot be written: {path}")]
    Open {
        /// Which of them.
        key: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `log.level` is not a list of `tracing` directives.
    #[error("`log.level` is not understood; write `error`, `warn`, `info`, `debug` or `trace`")]
    Level(#[source] tracing_subscriber::filter::ParseError),
    /// The system gave no thread.
    #[error("the access log's thread could not be started")]
    Thread(#[source] io::Error),
}

impl AccessWriter {
    /// Starts the writer; `None` when access lines are off. Lines that are lost, because the writer is behind or its disk is
    /// full, are added to `lost`.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not started.
    pub fn start(settings: &AccessLog, lost: Arc<AtomicU64>) -> Result<Option<Self>, LogError> {
        let output = match settings {
            AccessLog::Off => return Ok(None),
            AccessLog::Stdout => Output::Stream(Box::new(io::stdout())),
            AccessLog::File(path) => {
                let not_opened =
                    |source| LogError::Open { key: "log.access", path: path.display().to_string(), source };
                Output::append(path, "Access log").map_err(not_opened)?
            }
        };
        Writer::start("access-log", output, QUEUED_BUFFERS, lost)
            .map(|writer| Some(Self(writer)))
            .map_err(LogError::Thread)
    }

    /// A buffer for a worker.
    pub fn buffer(writer: Option<&Self>) -> AccessBuffer {
        AccessBuffer { channel: writer.map(|writer| writer.0.channel().clone()), lines: RefCell::default() }
    }

    /// A handle that asks for the file to be opened anew, for when somebody has moved it away. Standard output stays as it
    /// is.
    pub fn reopener(&self) -> Reopener {
        Reopener(self.0.reopening().clone())
    }

    /// Writes what was handed over and ends; gives up after a second. All buffers must have been dropped.
    pub fn finish(self) {
        self.0.finish();
    }
}

impl Reopener {
    /// Returns at once; the writer does it before its next lines.
    pub fn reopen(&self) {
        // When it is full, the writer has been asked already.
        let _ = self.0.try_send(());
    }
}

impl AccessBuffer {
    /// Whether anybody wants lines.
    pub const fn is_on(&self) -> bool {
        self.channel.is_some()
    }

    /// Adds a line, which `write` must end with a line feed.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let is_full = {
            let mut lines = self.lines.borrow_mut();
            write(&mut lines.text);
            lines.count += 1;
            lines.text.len() >= BUFFER_BYTES
        };
        if is_full {
            self.flush();
        }
    }

    /// Hands the lines to the writer.
    pub fn flush(&self) {
        let Some(channel) = &self.channel else { return };
        let mut lines = self.lines.borrow_mut();
        if !lines.text.is_empty() {
            let (text, count) = (std::mem::take(&mut lines.text), std::mem::take(&mut lines.count));
            lines.text = channel.send(text, count);
        }
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Sets up the application log on stderr, by way of a thread: a pipe that nobody reads must not stop a worker that reports
/// something. Audit lines have a thread and a queue of their own, so that no number of other lines takes their room. Keep what is
/// returned until the end. A second call in one process changes nothing.
///
/// # Errors
/// [`LogError::Level`], [`LogError::Thread`].
pub fn start(settings: &LogSettings, lost: LostLines) -> Result<ApplicationLog, LogError> {
    let filter = EnvFilter::try_new(directives(settings)).map_err(LogError::Level)?;
    let is_terminal = io::stderr().is_terminal();
    let is_json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    // Both write whole lines under the lock of standard error.
    let writer = |name: &str, lost: Arc<AtomicU64>| {
        let output = Output::Stream(Box::new(io::stderr()));
        Writer::start(name, output, QUEUED_EVENTS, lost).map_err(LogError::Thread)
    };
    let log = ApplicationLog { events: writer("log", lost.events)?, audit: writer("audit-lines", lost.audit)? };
    let sinks = Sinks { events: log.events.channel().clone(), audit: log.audit.channel().clone() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(sinks);
    let started = if is_json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(is_terminal).with_target(false).try_init()
    };
    if started.is_err() {
        tracing::debug!("The application log was set up before");
    }
    Ok(log)
}

/// The level, and that audit lines, which have a setting of their own, do not depend on it.
fn directives(settings: &LogSettings) -> String {
    match settings.audit {
        AuditLog::Log => format!("{},{AUDIT_TARGET}=info", settings.level),
        AuditLog::File(_) | AuditLog::Off => settings.level.clone(),
    }
}

impl Drop for ApplicationLog {
    fn drop(&mut self) {
        // `tracing` keeps a channel for ever, so the end of the thread cannot be waited for; an empty queue can.
        self.events.settle();
        self.audit.settle();
    }
}

/// Hands an event to a writing thread.
#[derive(Debug)]
struct Sink(Channel);

impl Write for Sink {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.send(event.to_vec(), 1);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The way to each of the two threads.
#[derive(Debug)]
struct Sinks {
    events: Channel,
    audit: Channel,
}

impl<'a> MakeWriter<'a> for Sinks {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        Sink(self.events.clone())
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Sink {
        if event.target() == AUDIT_TARGET { Sink(self.audit.clone()) } else { self.make_writer() }
    }
}

/// The `tracing` target of audit lines.
pub const AUDIT_TARGET: &str = "tollgate::audit";

/// A worker hands its lines over when they are this long, or when its tick comes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that may wait for the writer: about 4 MiB of lines. More are dropped and counted.
const QUEUED_BUFFERS: usize = 64;

/// Events of the application log, and as many of the audit, that may wait for their thread.
const QUEUED_EVENTS: usize = 1024;
