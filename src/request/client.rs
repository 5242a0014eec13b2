//! The client's address, and whom to believe about it.

use ipnet::IpNet;

/// The proxies in front of us whose `X-Forwarded-For` is believed. Empty: nobody is.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);
