//! The access log's writer and the application log's set-up.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use tracing_subscriber::EnvFilter;

/// `[log]`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Where access lines go.
    pub access: AccessLog,
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
pub struct AccessWriter {
    channel: Channel,
    thread: JoinHandle<()>,
}

/// One worker's access lines that have not been handed to the writer. Not shared between threads.
#[derive(Debug)]
pub struct AccessBuffer {
    /// `None` when access lines are off.
    writer: Option<Channel>,
    lines: RefCell<Lines>,
}

/// Where full buffers go, and empty ones come back.
#[derive(Debug, Clone)]
struct Channel {
    full: Sender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.access` names a file that cannot be appended to.
    #[error("`log.access` cannot be written: {path}")]
    Open {
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
    /// Starts the writer; `None` when access lines are off.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not started.
    pub fn start(settings: &AccessLog) -> Result<Option<Self>, LogError> {
        let output: Box<dyn Write + Send> = match settings {
            AccessLog::Off => return Ok(None),
            AccessLog::Stdout => Box::new(io::stdout()),
            AccessLog::File(path) => Box::new(open(path)?),
        };
        let (sender, receiver) = crossbeam_channel::bounded(QUEUED_BUFFERS);
        let (empty_sender, empty) = crossbeam_channel::bounded(QUEUED_BUFFERS);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(output, &receiver, &empty_sender))
            .map_err(LogError::Thread)?;
        Ok(Some(Self { channel: Channel { full: sender, empty }, thread }))
    }

    /// A buffer for a worker.
    pub fn buffer(writer: Option<&Self>) -> AccessBuffer {
        AccessBuffer { writer: writer.map(|writer| writer.channel.clone()), lines: RefCell::default() }
    }

    /// Writes what was handed over and ends. All buffers must have been dropped.
    pub fn finish(self) {
        drop(self.channel);
        // A panic of the writer has been reported by the panic hook; there is nothing left to save.
        let _ = self.thread.join();
    }
}

impl AccessBuffer {
    /// Whether anybody wants lines.
    pub const fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Adds a line, which `write` must end with a line feed. Returns how many lines were lost because the writer is behind.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let is_full = {
            let mut lines = self.lines.borrow_mut();
            write(&mut lines.text);
            lines.count += 1;
            lines.text.len() >= BUFFER_BYTES
        };
        if is_full { self.flush() } else { 0 }
    }

    /// Hands the lines to the writer. Returns how many lines were lost because the writer is behind.
    pub fn flush(&self) -> u64 {
        let Some(writer) = &self.writer else { return 0 };
        let mut lines = self.lines.borrow_mut();
        if lines.text.is_empty() {
            return 0;
        }
        let fresh = writer.empty.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut lines.text, fresh);
        let count = std::mem::take(&mut lines.count);
        match writer.full.try_send(full) {
            Ok(()) => 0,
            Err(error) => {
                lines.text = error.into_inner();
                lines.text.clear();
                count
            }
        }
    }
}

/// Sets up the application log on stderr. A second call in one process changes nothing.
///
/// # Errors
/// [`LogError::Level`].
pub fn start(settings: &LogSettings) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&settings.level).map_err(LogError::Level)?;
    let is_json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if is_json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init()
    };
    if started.is_err() {
        tracing::debug!("The application log was set up before");
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, LogError> {
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(|source| LogError::Open { path: path.display().to_string(), source })
}

/// A full disk or a closed pipe loses lines and says so once, and the traffic goes on.
fn write_all(mut output: Box<dyn Write + Send>, full: &Receiver<Vec<u8>>, empty: &Sender<Vec<u8>>) {
    let mut is_failing = false;
    for mut lines in full {
        match output.write_all(&lines).and_then(|()| output.flush()) {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(error = %error, "Access lines are lost");
            }
            Err(_) => {}
        }
        lines.clear();
        // When nobody needs it, it is freed.
        let _ = empty.try_send(lines);
    }
}

/// A worker hands its lines over when they are this long, or when its tick comes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that may wait for the writer: about 4 MiB of lines. More are dropped and counted.
const QUEUED_BUFFERS: usize = 64;
