//! The system's limits on this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open descriptors as far as the system lets us, and returns how many connections it is enough for: at
/// most `max_connections`, each of which can need one to an upstream as well.
pub(super) fn raise_descriptors(max_connections: usize) -> usize {
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
        return enough.clamp(1, max_connections);
    }
    max_connections
}

/// For listeners, the store, logs and the event queues.
const RESERVED: u64 = 128;
