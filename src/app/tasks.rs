//! The tasks that the process cannot do without, and what becomes of it when one of them ends in a defect.

use std::collections::HashMap;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinSet};

/// Owns the tasks of the control runtime. Dropped, it aborts them.
#[derive(Debug)]
pub(super) struct Tasks {
    control: Handle,
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    pub(super) fn new(control: &Handle) -> Self {
        Self { control: control.clone(), running: JoinSet::new(), names: HashMap::new() }
    }

    /// Starts a task, which may end when it has nothing more to do. `name` is for the log.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let started = self.running.spawn_on(task, &self.control);
        self.names.insert(started.id(), name);
    }

    /// Waits until a task ends in a defect, and gives its name. Without it the process would go on and be wrong, as one that
    /// no longer hears of ended sessions.
    pub(super) async fn defect(&mut self) -> &'static str {
        while let Some(ended) = self.running.join_next_with_id().await {
            match ended {
                Ok((id, ())) => drop(self.names.remove(&id)),
                Err(error) if error.is_panic() => return self.names.remove(&error.id()).unwrap_or_default(),
                // Nobody aborts them while the process runs.
                Err(error) => drop(self.names.remove(&error.id())),
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_by_its_name_and_one_that_ends_is_not() {
        let mut tasks = Tasks::new(&Handle::current());
        tasks.spawn("ends", async {});
        tasks.spawn("goes on", std::future::pending());
        {
            let mut defect = Box::pin(tasks.defect());
            for _ in 0..10 {
                assert!(futures_util::poll!(&mut defect).is_pending());
                tokio::task::yield_now().await;
            }
        }
        tasks.spawn("breaks", async { panic!("on purpose") });
        assert_eq!(tasks.defect().await, "breaks");
    }
}
