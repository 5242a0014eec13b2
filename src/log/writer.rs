//! A thread that writes what others hand it, so that none of them ever waits for a disk or a pipe.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

/// The writing thread. What it cannot take or write is counted and lost.
#[derive(Debug)]
pub(super) struct Writer {
    channel: Channel,
    /// Asks the thread to open its file anew.
    reopening: Sender<()>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

/// Where the thread writes.
pub(super) enum Output {
    /// A stream that the process was given.
    Stream(Box<dyn Write + Send>),
    /// A file that is appended to, and that somebody may have moved away.
    File {
        path: PathBuf,
        file: File,
        /// As messages call it: "Access log".
        name: &'static str,
    },
}

/// A way to the writing thread.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    full: Sender<Block>,
    empty: Receiver<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

/// Some whole lines.
#[derive(Debug)]
struct Block {
    text: Vec<u8>,
    lines: u64,
}

impl Writer {
    /// Starts a thread that writes to `output`. At most `blocks` wait for it; lines that are lost are added to `lost`.
    pub(super) fn start(name: &str, output: Output, blocks: usize, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let (full, receiver) = crossbeam_channel::bounded(blocks);
        let (empty_sender, empty) = crossbeam_channel::bounded(blocks);
        let (end, ended) = crossbeam_channel::bounded(0);
        // One request that waits is as good as many.
        let (reopening, reopen) = crossbeam_channel::bounded(1);
        let losses = Arc::clone(&lost);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            write_all(output, &receiver, reopen, &empty_sender, &losses);
            drop(end);
        })?;
        Ok(Self { channel: Channel { full, empty, lost }, reopening, ended })
    }

    pub(super) const fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) const fn reopening(&self) -> &Sender<()> {
        &self.reopening
    }

    /// Waits until everything is written, if all other channels are gone, but not for ever: whoever reads the other end may
    /// have stopped reading.
    pub(super) fn finish(self) {
        drop(self.channel);
        // It never sends; it closes, or the time is over.
        let _ = self.ended.recv_timeout(LONGEST_FINISH);
    }
}

impl Writer {
    /// Waits until all that was handed over has been taken and a moment longer, but not for ever.
    pub(super) fn settle(&self) {
        for _ in 0..20 {
            if self.channel.full.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Channel {
    /// Hands whole lines over, and returns an empty buffer for the next ones.
    pub(super) fn send(&self, text: Vec<u8>, lines: u64) -> Vec<u8> {
        match self.full.try_send(Block { text, lines }) {
            Ok(()) => self.empty.try_recv().unwrap_or_default(),
            Err(error) => {
                self.lost.fetch_add(lines, Relaxed);
                let mut text = error.into_inner().text;
                text.clear();
                text
            }
        }
    }
}

impl Output {
    /// The file at `path`, made when missing.
    pub(super) fn append(path: &Path, name: &'static str) -> io::Result<Self> {
        // A pipe that is opened for both directions does not wait for its reader; one that is full makes this thread wait, and
        // lines are then lost and counted.
        let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        let file = File::options().append(true).read(is_pipe).create(true).open(path)?;
        Ok(Self::File { path: path.to_owned(), file, name })
    }

    /// Whether it is now a fresh file. One that cannot be opened leaves the former one in place.
    fn reopen(&mut self) -> bool {
        let Self::File { path, file: _, name } = self else { return false };
        match Self::append(path, name) {
            Ok(fresh) => {
                tracing::info!(path = %path.display(), "{name} opened anew");
                *self = fresh;
                true
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = %error, "{name} not opened anew, the former file is kept");
                false
            }
        }
    }

    fn stream(&mut self) -> &mut dyn Write {
        match self {
            Self::Stream(stream) => stream,
            Self::File { file, .. } => file,
        }
    }
}

fn write_all(
    mut output: Output,
    full: &Receiver<Block>,
    reopen: Receiver<()>,
    empty: &Sender<Vec<u8>>,
    lost: &AtomicU64,
) {
    // A write that failed may have left half a line, to which the next must not be glued.
    let mut ends_midway = false;
    let mut reopen = reopen;
    loop {
        // Reopening comes first, because under load there is always a block.
        let Block { mut text, lines } = crossbeam_channel::select_biased! {
            recv(reopen) -> asked => {
                match asked {
                    Ok(()) if output.reopen() => ends_midway = false,
                    Ok(()) => {}
                    Err(_) => reopen = crossbeam_channel::never(),
                }
                continue;
            },
            recv(full) -> block => match block {
                Ok(block) => block,
                Err(_) => return,
            },
        };
        let output = output.stream();
        let mut writing = || {
            if ends_midway {
                output.write_all(b"\n")?;
            }
            output.write_all(&text)?;
            output.flush()
        };
        let written = writing();
        ends_midway = written.is_err();
        if written.is_err() {
            lost.fetch_add(lines, Relaxed);
        }
        text.clear();
        // When nobody needs it, it is freed.
        let _ = empty.try_send(text);
    }
}

const LONGEST_FINISH: Duration = Duration::from_secs(1);
