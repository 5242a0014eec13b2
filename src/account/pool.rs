//! Threads that hash passwords: few, at the lowest priority, with a bounded queue, so that a storm of logins cannot
//! slow the forwarding of requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Priority;

/// The lowest niceness that Linux gives, and one that gets a tenth of an ordinary thread's share.
const LOWEST_NICE: i32 = 19;
const LOW_NICE: i32 = 10;
/// What a job is thought to take before the first has run: bcrypt at cost 12.
const FIRST_GUESS: Duration = Duration::from_millis(250);
/// Bounds of what a refused caller is told to wait.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs on its own threads. The threads end when this is dropped and the queue is empty.
#[derive(Debug)]
pub(super) struct HashingPool {
    jobs: Sender<Job>,
    threads: usize,
    /// How long jobs take lately, in microseconds.
    typical_micros: Arc<AtomicU64>,
}

/// Why a job was not run to its end.
#[derive(Debug)]
pub(super) enum NotRun {
    /// The queue is full.
    Full {
        /// When there should be room again.
        retry_after: Duration,
    },
    /// The job panicked.
    Panicked,
}

impl HashingPool {
    /// `threads` 0: half of the cores, at least one.
    pub(super) fn start(threads: usize, queue: usize, priority: Priority) -> Self {
        let threads = match threads {
            // A core without hashing is where the system can let everything else run at once, other processes included.
            0 => thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            threads => threads,
        };
        let (jobs, waiting) = bounded(queue.max(1));
        let mut started = 0;
        for number in 0..threads {
            let waiting = waiting.clone();
            match thread::Builder::new().name(format!("hashing-{number}")).spawn(move || work(&waiting, priority)) {
                Ok(_) => started += 1,
                Err(error) => tracing::error!(%error, "Hashing thread not started"),
            }
        }
        Self { jobs, threads: started, typical_micros: Arc::new(AtomicU64::new(micros(FIRST_GUESS))) }
    }

    /// Queues `job` and awaits its value. A job whose caller has gone before its turn is not run.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, NotRun> {
        let (done, answer) = oneshot::channel();
        let typical = Arc::clone(&self.typical_micros);
        let queued: Job = Box::new(move || {
            if done.is_closed() {
                return;
            }
            let start = Instant::now();
            let value = job();
            // Three parts old and one part new; a lost update between threads does no harm.
            let before = typical.load(Ordering::Relaxed);
            typical.store((before.saturating_mul(3).saturating_add(micros(start.elapsed()))) / 4, Ordering::Relaxed);
            // The caller may leave while its job runs.
            let _ = done.send(value);
        });
        if self.threads == 0 || self.jobs.try_send(queued).is_err() {
            return Err(NotRun::Full { retry_after: self.retry_after() });
        }
        // The sender is dropped unused only when the job unwinds.
        answer.await.map_err(|_| NotRun::Panicked)
    }

    /// The time in which the threads will have worked off what waits now, in whole seconds.
    fn retry_after(&self) -> Duration {
        let jobs = u32::try_from(self.jobs.len() / self.threads.max(1)).unwrap_or(u32::MAX);
        let wait = Duration::from_micros(self.typical_micros.load(Ordering::Relaxed)).saturating_mul(jobs);
        Duration::from_secs(wait.as_secs().saturating_add(1)).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
    }
}

/// Lowers the calling thread. `SCHED_IDLE` threads are preempted at once, where merely nice ones may finish their slice of
/// some milliseconds first; the lowest niceness counts where that policy is refused.
fn give_way(priority: Priority) {
    let nice = match priority {
        Priority::Low => LOW_NICE,
        Priority::Idle => {
            let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
                tracing::debug!(error = ?error, "Hashing thread is not scheduled as idle");
            }
            LOWEST_NICE
        }
    };
    // On Linux a priority belongs to a thread, and the id of a thread is taken where one of a process is asked for.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        tracing::warn!(%error, "Hashing thread runs at normal priority");
    }
}

fn work(waiting: &Receiver<Job>, priority: Priority) {
    give_way(priority);
    while let Ok(job) = waiting.recv() {
        // A job owns all that it touches, so nothing half-changed is left behind.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("Password check panicked");
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_says_when_to_come_back() {
        let pool = Arc::new(HashingPool::start(1, 1, Priority::Idle));
        let (release, held) = bounded::<()>(0);
        let (began, beginning) = bounded::<()>(1);
        let busy = tokio::spawn({
            let (pool, held) = (Arc::clone(&pool), held.clone());
            async move {
                pool.run(move || {
                    began.send(()).unwrap();
                    held.recv().unwrap();
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || beginning.recv().unwrap()).await.unwrap();
        let mut queued = Box::pin(pool.run(move || held.recv().unwrap()));
        assert!(futures_util::poll!(&mut queued).is_pending());
        let refused = pool.run(|| ()).await;
        assert!(matches!(refused, Err(NotRun::Full { retry_after }) if retry_after >= MIN_RETRY_AFTER), "{refused:?}");
        release.send(()).unwrap();
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        queued.await.unwrap();
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_not_run() {
        let pool = HashingPool::start(1, 4, Priority::Idle);
        let (release, held) = bounded::<()>(0);
        let mut first = Box::pin(pool.run(move || held.recv().unwrap()));
        assert!(futures_util::poll!(&mut first).is_pending());
        let ran = Arc::new(AtomicBool::new(false));
        let mut second = Box::pin(pool.run({
            let ran = Arc::clone(&ran);
            move || ran.store(true, Ordering::SeqCst)
        }));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(second);
        release.send(()).unwrap();
        first.await.unwrap();
        pool.run(|| ()).await.unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_does_not_end_the_thread() {
        let pool = HashingPool::start(1, 1, Priority::Idle);
        let outcome = pool.run(|| panic!("on purpose")).await;
        assert!(matches!(outcome, Err(NotRun::Panicked)), "{outcome:?}");
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_threads_run_at_the_lowest_priority() {
        let pool = HashingPool::start(1, 1, Priority::Idle);
        let nice = pool.run(|| rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap()).await;
        assert_eq!(nice.unwrap(), LOWEST_NICE);
        let policy = pool.run(|| thread_priority::unix::thread_schedule_policy().unwrap()).await;
        assert_eq!(policy.unwrap(), ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
    }
}
