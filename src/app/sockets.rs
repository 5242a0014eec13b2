//! The sockets that the process listens on.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::server::{self, ServerSettings};

use super::StartError;

/// Bound, and not yet accepting.
#[derive(Debug)]
pub(super) struct Sockets {
    /// For each worker a listener on each address.
    pub(super) public: Vec<Vec<TcpListener>>,
    /// Where clients connect; for port 0, the port that was free.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin: Option<TcpListener>,
}

impl Sockets {
    pub(super) fn bind(config: &Config, workers: usize) -> Result<Self, StartError> {
        let (public, addresses) = bind_public(&config.server, workers)?;
        Ok(Self { public, addresses, admin: bind_admin(config.admin.listen)? })
    }

    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn bind_public(
    settings: &ServerSettings,
    workers: usize,
) -> Result<(Vec<Vec<TcpListener>>, Vec<SocketAddr>), StartError> {
    let mut by_worker: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for &address in &settings.listen {
        let error = |source| StartError::Listen { key: "server.listen", address, source };
        let listeners = server::bind(address, workers).map_err(error)?;
        for (own, listener) in by_worker.iter_mut().zip(listeners) {
            own.push(listener);
        }
        let bound = by_worker.first().and_then(|own| own.last()).map(TcpListener::local_addr);
        addresses.push(bound.transpose().map_err(error)?.unwrap_or(address));
    }
    Ok((by_worker, addresses))
}

fn bind_admin(address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let error = |source| StartError::Listen { key: "admin.listen", address, source };
    let listener = TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok(Some(listener))
}
