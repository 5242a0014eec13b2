//! Upstream tokens: what is in them, and how long one serves.
