//! Where audit lines go, and the writer of a file of them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::writer::{Output, Writer};
use super::{LogError, QUEUED_EVENTS, Reopener};

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// Into the application log (default), whatever its level.
    Log,
    /// Appended to a file, each as one JSON object.
    File(PathBuf),
    /// Nowhere. Events are counted all the same.
    Off,
}

/// Writes audit lines to a file, or a command's to standard error.
#[derive(Debug)]
pub struct AuditWriter(Way);

#[derive(Debug)]
enum Way {
    /// By a thread, so that nobody waits for the disk.
    Thread(Writer),
    /// At once: a command ends after its line.
    Direct { file: Mutex<File>, path: PathBuf },
    /// At once, to whoever runs the command.
    Stderr,
}

impl AuditWriter {
    /// Opens the file and starts the thread that writes to it. Lines that are lost, because the disk is full or slow, are added to
    /// `lost`.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn start(path: &Path, lost: Arc<AtomicU64>) -> Result<Self, LogError> {
        let output = Output::append(path, "Audit log").map_err(|source| not_opened(path, source))?;
        let writer = Writer::start("audit-log", output, QUEUED_EVENTS, lost).map_err(LogError::Thread)?;
        Ok(Self(Way::Thread(writer)))
    }

    /// Opens the file for a command, which waits for its line.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn direct(path: &Path) -> Result<Self, LogError> {
        let file = File::options().append(true).create(true).open(path).map_err(|source| not_opened(path, source))?;
        Ok(Self(Way::Direct { file: Mutex::new(file), path: path.to_owned() }))
    }

    /// For a command where there is no file: whoever runs it, or what keeps the output of what they run, gets the line.
    pub const fn stderr() -> Self {
        Self(Way::Stderr)
    }

    /// Appends a line, which ends with a line feed.
    pub fn write(&self, line: Vec<u8>) {
        match &self.0 {
            Way::Thread(writer) => {
                writer.channel().send(line, 1);
            }
            Way::Direct { file, path } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = file.write_all(&line) {
                    // What it tells of has been done, and a command has no log: whoever runs it must know. Without standard error
                    // there is nobody to tell.
                    let path = path.display();
                    let _ = writeln!(std::io::stderr(), "warning: the audit line is not in `{path}`: {error}");
                }
            }
            Way::Stderr => {
                // As above.
                let _ = std::io::stderr().write_all(&line);
            }
        }
    }

    /// A handle that asks for the file to be opened anew; `None` for a command's.
    pub fn reopener(&self) -> Option<Reopener> {
        match &self.0 {
            Way::Thread(writer) => Some(Reopener(writer.reopening().clone())),
            Way::Direct { .. } | Way::Stderr => None,
        }
    }

    /// Waits until all lines so far are written, but not for ever.
    pub fn settle(&self) {
        if let Way::Thread(writer) = &self.0 {
            writer.settle();
        }
    }
}

fn not_opened(path: &Path, source: std::io::Error) -> LogError {
    LogError::Open { key: "log.audit", path: path.display().to_string(), source }
}
