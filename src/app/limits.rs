//! The system's limits on this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the limit of open descriptors is enough for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptors {
    /// Connections of clients, each of which can need one to an upstream as well.
    pub(super) connections: usize,
    /// What is left beside these.
    pub(super) spare: usize,
}

/// Raises the limit as far as the system lets us, for at most `max_connections`.
pub(super) fn raise_descriptors(max_connections: usize) -> Descriptors {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = max_connections as u64 * 2 + RESERVED;
    if let Some(current) = current
        && current < needed
    {
        tracing::warn!(
            limit = current,
            needed,
            "The descriptor limit is too low for `server.max_connections`, fewer are served; raise it (`ulimit -n`, `LimitNOFILE=`)"
        );
        let enough = usize::try_from(current.saturating_sub(RESERVED) / 2).unwrap_or(max_connections);
        return Descriptors { connections: enough.clamp(1, max_connections), spare: 0 };
    }
    let spare = current.map_or(u64::MAX, |current| current - needed);
    Descriptors { connections: max_connections, spare: usize::try_from(spare).unwrap_or(usize::MAX) }
}

/// For listeners, the store, logs and the event queues.
const RESERVED: u64 = 128;
