//! How a gateway learns which sessions have ended elsewhere: their rows in the store tell it, for as long as it matters.
//!
//! A change stream tells of each as it happens; where there is none, the store is asked twice a second. Either way the rows are
//! read anew after every interruption, and now and then, so that a gateway that is current has missed nothing. To enter a
//! session twice does no harm, so that every reading begins well before the last.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::metrics::{FeedMode, Metrics};
use crate::store::{EndPlace, EndStream, MAX_END_PAGE, SessionEnd, Store, StoreError};
use crate::time::Moment;

use super::wall_clock::WallClock;
use super::{FeedChoice, RevocationSettings, Revocations, SLOWEST_WRITE};

/// Brings the ends of sessions from the store into the set.
#[derive(Debug)]
pub struct Feed {
    store: Arc<dyn Store>,
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    choice: FeedChoice,
    poll_interval: Duration,
    /// How far back a reading goes that repeats others.
    overlap: Duration,
    /// Up to when all ends are known; `None`: there was no reading yet.
    known_until: Option<Instant>,
    next_sweep: Instant,
    /// While it was wrong, ends that still matter may have been dropped or not taken for such.
    clock: WallClock,
    /// What was last told to the log.
    told: Option<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Fed(FeedMode),
    Lost,
}

/// How far back the rows are read.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// All that a token may be left of.
    All,
    /// What may not have been there at the last reading.
    Overlap,
}

/// Whether the database tells by itself.
enum Source {
    Stream(Box<dyn EndStream>),
    /// It does not, now or ever: it is polled, and asked again for a stream after this time.
    Polled(Option<Duration>),
}

impl Feed {
    /// A feed of this store into `revocations`.
    pub fn new(
        settings: &RevocationSettings,
        store: Arc<dyn Store>,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            metrics,
            choice: settings.feed,
            poll_interval: settings.poll_interval,
            overlap: (settings.leeway * 2 + settings.store_patience + SLOWEST_WRITE).min(revocations.entry_life),
            revocations,
            known_until: None,
            next_sweep: Instant::now() + SWEEP_INTERVAL,
            clock: WallClock::new(),
            told: None,
        }
    }

    /// Reads what there is once, so that a gateway begins with it.
    ///
    /// # Errors
    /// The store does not answer. [`Self::run`] goes on trying.
    pub async fn load(&mut self) -> Result<(), StoreError> {
        self.read(Reach::All).await
    }

    /// Goes on until its task ends. Calls `known` whenever all ends of sessions are known after a time when they were not.
    pub async fn run(mut self, known: impl Fn() + Send) {
        loop {
            if let Err(error) = self.follow(&known).await {
                self.tell(Standing::Lost, Some(&error));
            }
            self.sweep();
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Follows the store until it is lost, or should be asked for a stream again.
    async fn follow(&mut self, known: &(impl Fn() + Send)) -> Result<(), StoreError> {
        // The stream first: what ends between the two is in both.
        let source = self.open().await;
        self.read(Reach::All).await?;
        known();
        match source {
            Source::Stream(stream) => {
                self.tell(Standing::Fed(FeedMode::ChangeStream), None);
                self.listen(stream).await
            }
            Source::Polled(limit) => {
                self.tell(Standing::Fed(FeedMode::Polling), None);
                self.poll(limit).await
            }
        }
    }

    async fn open(&self) -> Source {
        if self.choice == FeedChoice::Polling {
            return Source::Polled(None);
        }
        match self.store.watch_session_ends().await {
            Ok(Some(stream)) => Source::Stream(stream),
            Ok(None) => Source::Polled(None),
            Err(error) => {
                tracing::debug!(error = %error, "No change stream, polling for ended sessions");
                Source::Polled(Some(STREAM_PAUSE))
            }
        }
    }

    async fn listen(&mut self, mut stream: Box<dyn EndStream>) -> Result<(), StoreError> {
        let mut next_reading = Instant::now() + READING_INTERVAL;
        loop {
            let told = stream.next().await?;
            if let Some(end) = told.end {
                self.enter(&[end]);
            }
            if let Some(moment) = told.complete_at {
                self.know_until(moment);
            }
            // A server that has lost the others tells nothing and does not know it yet; and clocks or streams may fail in ways
            // that nobody has thought of.
            self.clock.now();
            if Instant::now() >= next_reading || self.clock.was_set() {
                self.read(Reach::Overlap).await?;
                next_reading = Instant::now() + READING_INTERVAL;
            }
            self.sweep();
        }
    }

    async fn poll(&mut self, limit: Option<Duration>) -> Result<(), StoreError> {
        let end = limit.map(|limit| Instant::now() + limit);
        while end.is_none_or(|end| Instant::now() < end) {
            sleep(self.poll_interval).await;
            self.read(Reach::Overlap).await?;
            self.sweep();
        }
        Ok(())
    }

    /// Enters what the rows of ended sessions tell, page by page: all of them if the clock was set since the last time.
    async fn read(&mut self, reach: Reach) -> Result<(), StoreError> {
        let (asked_at, now) = (Instant::now(), self.clock.now());
        let was_set = self.clock.was_set();
        let back = match reach {
            Reach::Overlap if !was_set => self.overlap,
            Reach::Overlap | Reach::All => self.revocations.entry_life,
        };
        // Before it is read, so that another step meanwhile is noticed.
        self.clock.take_as_right();
        if let Err(error) = self.read_since(now.minus(back)).await {
            if was_set {
                self.clock.take_as_wrong();
            }
            return Err(error);
        }
        self.know_until(asked_at);
        Ok(())
    }

    async fn read_since(&mut self, at: Moment) -> Result<(), StoreError> {
        let mut place = Some(EndPlace { at, after: None });
        while let Some(from) = place {
            let page = self.store.session_ends(from, MAX_END_PAGE).await?;
            self.enter(&page.ends);
            place = page.next;
        }
        Ok(())
    }

    fn enter(&mut self, ends: &[SessionEnd]) {
        let now = self.clock.now();
        let pairs: Vec<_> = ends.iter().map(|end| (end.id.0, end.at.seconds())).collect();
        let new = self.revocations.enter(&pairs, now.seconds());
        // What had ended before the first reading says nothing of how soon ends are heard of.
        let Some(known_until) = self.known_until.filter(|_| !new.is_empty()) else { return };
        let at_most = known_until.elapsed();
        for end in ends.iter().filter(|end| new.contains(&end.id.0)) {
            let by_clock = now.since(end.written_at.unwrap_or(end.at));
            self.metrics.revocation().heard(by_clock.min(at_most));
        }
    }

    fn know_until(&mut self, moment: Instant) {
        self.known_until = self.known_until.max(Some(moment));
        self.revocations.know_until(moment);
    }

    fn sweep(&mut self) {
        let now = self.clock.now();
        // What was dated by a wrong clock is dated anew by the next reading, and must not go before it.
        if Instant::now() >= self.next_sweep && !self.clock.was_set() {
            self.revocations.sweep(now.seconds());
            self.next_sweep = Instant::now() + SWEEP_INTERVAL;
        }
    }

    /// Says so once when the standing changes.
    fn tell(&mut self, standing: Standing, error: Option<&StoreError>) {
        let mode = match standing {
            Standing::Fed(mode) => Some(mode),
            Standing::Lost => None,
        };
        self.metrics.revocation().set_mode(mode);
        if self.told.replace(standing) == Some(standing) {
            return;
        }
        match (standing, error) {
            (Standing::Fed(mode), _) => tracing::info!(feed = mode.name(), "Ended sessions are followed"),
            (Standing::Lost, Some(error)) => tracing::warn!(error = %error, "Ended sessions cannot be followed"),
            (Standing::Lost, None) => tracing::warn!("Ended sessions cannot be followed"),
        }
    }
}

/// Between two tries. Less than the 2 seconds in which an end is known everywhere leave for it.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long a database that has change streams and gave none is polled before it is asked again.
const STREAM_PAUSE: Duration = Duration::from_secs(5);
/// Between two readings of the rows while a change stream tells.
const READING_INTERVAL: Duration = Duration::from_secs(10);
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
