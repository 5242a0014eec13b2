//! Path and host patterns, and the rewriting of a matched path.

/// `/datasets/{id}/{*rest}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {}

/// `api.example.org` or `*.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {}

/// The path that the upstream gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// The client's path as it is.
    Keep,
}

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct PatternError;

impl PathPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let _ = text;
        unimplemented!()
    }
    /// The position of the parameter of that name, to be used in [`super::ClaimValue::Parameter`].
    pub fn parameter(&self, name: &str) -> Option<usize> {
        let _ = name;
        unimplemented!()
    }
    /// The names of the parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}

impl HostPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let _ = text;
        unimplemented!()
    }
}

impl Rewrite {
    /// `strip_prefix`: must be a literal prefix of the pattern, on a segment's border.
    pub fn strip_prefix(prefix: &str, pattern: &PathPattern) -> Result<Self, PatternError> {
        let _ = (prefix, pattern);
        unimplemented!()
    }
    /// `rewrite = "/v2/{id}/{*rest}"`: every parameter must be one of the pattern's.
    pub fn template(template: &str, pattern: &PathPattern) -> Result<Self, PatternError> {
        let _ = (template, pattern);
        unimplemented!()
    }
}
