//! Path and host patterns, and the rewriting of a matched path.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::request::path::{NormalPath, PathError};

/// `/datasets/{id}/{*rest}`: literal segments, `{name}` for exactly one segment, and last `{*name}` for all that follows,
/// which may be nothing. A literal is written decoded (`/café`, not `/caf%C3%A9`) and compared octet for octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    pub(super) segments: Vec<Segment>,
}

/// One segment of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
    Rest(Box<str>),
}

/// `api.example.org`, or `*.example.org` for every name below it, or an address, of IPv6 in brackets. Lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// Without the `*.`.
    name: Box<str>,
    is_wildcard: bool,
}

/// The path that the upstream gets. The query is never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// The client's path, normalized.
    Keep,
    /// Without its first segments.
    StripSegments(usize),
    /// Put together anew.
    Template(Vec<Piece>),
}

/// A piece of a [`Rewrite::Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(Box<str>),
    /// The segment of the client's path at this position.
    Segment(usize),
    /// The client's path from this segment on, without its leading slash.
    FromSegment(usize),
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A path does not begin with `/`.
    #[error("`{0}` does not begin with `/`")]
    NotAbsolute(String),
    /// `//` in the middle.
    #[error("`{0}` holds an empty segment")]
    EmptySegment(String),
    /// A literal that no request could match, or that looks encoded. What is `%`, `?`, `#` or `;` in a decoded path was encoded in
    /// the request, and a pattern for it is more likely a mistake.
    #[error(
        "segment `{0}` cannot be a literal: write it decoded, without `%`, `?`, `#`, `\\`, `;` and control characters, and \
         neither as `.` nor as `..`"
    )]
    BadLiteral(String),
    /// Braces that are not a whole segment.
    #[error("segment `{0}` is neither a literal nor a whole `{{name}}` or `{{*name}}`")]
    BadParameter(String),
    /// A parameter name twice.
    #[error("parameter `{0}` stands twice")]
    DuplicateParameter(String),
    /// `{*name}` before the end.
    #[error("`{0}` takes the rest of the path, so it must be the last segment")]
    RestNotLast(String),
    /// More than [`MAX_PARAMETERS`].
    #[error("more than {MAX_PARAMETERS} parameters")]
    TooManyParameters,
    /// A rewrite names a parameter that the pattern has not.
    #[error("`{{{0}}}` is not a parameter of the route's path")]
    UnknownParameter(String),
    /// A rewrite takes for the rest of the path what is one segment of it.
    #[error("`{{{0}}}` stands for one segment in the route's path; write `{{{0}}}` here too, without `*`")]
    NotRest(String),
    /// A rewrite takes for one segment what is the rest of the path.
    #[error("`{{*{0}}}` stands for the rest of the route's path; write `{{*{0}}}` here too, with `*`")]
    NotOneSegment(String),
    /// `strip_prefix` is not made of the pattern's first literal segments.
    #[error("`{0}` is not made of whole literal segments at the start of the route's path")]
    NotAPrefix(String),
    /// A rewrite that would never be a normal path.
    #[error("`{template}` makes no path that can be forwarded")]
    BadTemplate {
        /// The template.
        template: String,
        /// The rule it breaks.
        #[source]
        source: PathError,
    },
    /// Neither a host name nor an address.
    #[error("`{0}` is no host; write `api.example.org`, `*.example.org` or `[2001:db8::1]`, without scheme and port")]
    BadHost(String),
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatternError::NotAbsolute(text.into()));
        };
        let count = rest.split('/').count();
        let mut segments = Vec::with_capacity(count);
        let mut names: Vec<&str> = Vec::new();
        for (index, segment) in rest.split('/').enumerate() {
            let is_last = index + 1 == count;
            segments.push(match parameter_name(segment)? {
                None if segment.is_empty() && !is_last => return Err(PatternError::EmptySegment(text.into())),
                None => Segment::Literal(literal(segment)?),
                Some((name, _)) if names.contains(&name) => return Err(PatternError::DuplicateParameter(name.into())),
                Some((_, IsRest(true))) if !is_last => return Err(PatternError::RestNotLast(segment.into())),
                Some((name, IsRest(is_rest))) => {
                    names.push(name);
                    if is_rest { Segment::Rest(name.into()) } else { Segment::Parameter(name.into()) }
                }
            });
        }
        if names.len() > MAX_PARAMETERS {
            return Err(PatternError::TooManyParameters);
        }
        Ok(Self { text: text.into(), segments })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The position of the parameter of that name, to be used in [`super::ClaimValue::Parameter`].
    pub fn parameter(&self, name: &str) -> Option<usize> {
        self.parameters().position(|parameter| parameter == name)
    }

    /// The names of the parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) | Segment::Rest(name) => Some(&**name),
        })
    }

    /// The segment that the parameter `name` stands in, and whether it takes the rest.
    fn segment_of(&self, name: &str) -> Option<Piece> {
        self.segments.iter().enumerate().find_map(|(index, segment)| match segment {
            Segment::Parameter(parameter) if **parameter == *name => Some(Piece::Segment(index)),
            Segment::Rest(parameter) if **parameter == *name => Some(Piece::FromSegment(index)),
            Segment::Literal(_) | Segment::Parameter(_) | Segment::Rest(_) => None,
        })
    }
}

impl HostPattern {
    /// Reads a pattern. Upper case is taken as lower case.
    ///
    /// # Errors
    /// [`PatternError::BadHost`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let lower = text.to_ascii_lowercase();
        let (name, is_wildcard) = match lower.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        let is_name = !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte));
        if is_name {
            return Ok(Self { name: name.into(), is_wildcard });
        }
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        match address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
            // In the one form in which a request's host is compared.
            Some(address) if !is_wildcard => Ok(Self { name: format!("[{address}]").into(), is_wildcard }),
            Some(_) | None => Err(PatternError::BadHost(text.into())),
        }
    }

    /// Whether a request to `host` (lower case, no port, no final dot, an address in its canonical form) is meant.
    pub fn matches(&self, host: &str) -> bool {
        if self.is_wildcard {
            host.strip_suffix(&*self.name).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == &*self.name
        }
    }

    /// How exact it is: a whole name before a wildcard, a longer wildcard before a shorter one.
    pub(super) fn rank(&self) -> (bool, usize) {
        (!self.is_wildcard, self.name.len())
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.is_wildcard { "*." } else { "" }, self.name)
    }
}

impl Rewrite {
    /// `strip_prefix`: must be made of whole literal segments at the start of the pattern.
    ///
    /// # Errors
    /// [`PatternError::NotAPrefix`].
    pub fn strip_prefix(prefix: &str, pattern: &PathPattern) -> Result<Self, PatternError> {
        let error = || PatternError::NotAPrefix(prefix.into());
        let segments = prefix.strip_prefix('/').ok_or_else(error)?.split('/');
        let mut count = 0;
        for (index, segment) in segments.enumerate() {
            match pattern.segments.get(index) {
                Some(Segment::Literal(literal)) if **literal == *segment && !segment.is_empty() => count += 1,
                Some(Segment::Literal(_) | Segment::Parameter(_) | Segment::Rest(_)) | None => return Err(error()),
            }
        }
        Ok(Self::StripSegments(count))
    }

    /// `rewrite = "/v2/{id}/{*rest}"`: every parameter must be one of the pattern's. A parameter may be a part of a segment.
    ///
    /// # Errors
    /// [`PatternError::UnknownParameter`], [`PatternError::BadParameter`], [`PatternError::NotRest`],
    /// [`PatternError::NotOneSegment`], [`PatternError::BadTemplate`].
    pub fn template(template: &str, pattern: &PathPattern) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut sample = String::new();
        let mut remaining = template;
        while let Some((text, after)) = remaining.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| PatternError::BadParameter(template.into()))?;
            let (name, is_rest) = without_star(name);
            let piece = pattern.segment_of(name).ok_or_else(|| PatternError::UnknownParameter(name.into()))?;
            match (&piece, is_rest) {
                (Piece::Segment(_), IsRest(true)) => return Err(PatternError::NotRest(name.into())),
                (Piece::FromSegment(_), IsRest(false)) => return Err(PatternError::NotOneSegment(name.into())),
                (Piece::Segment(_) | Piece::FromSegment(_) | Piece::Text(_), _) => {}
            }
            sample.push_str(text);
            sample.push('x');
            if !text.is_empty() {
                pieces.push(Piece::Text(text.into()));
            }
            pieces.push(piece);
            remaining = after;
        }
        sample.push_str(remaining);
        if !remaining.is_empty() {
            pieces.push(Piece::Text(remaining.into()));
        }
        match NormalPath::parse(&sample) {
            Ok(_) => Ok(Self::Template(pieces)),
            Err(source) => Err(PatternError::BadTemplate { template: template.into(), source }),
        }
    }

    /// The path that the upstream gets for the client's `path`, which the rewrite's own pattern has matched.
    ///
    /// # Errors
    /// When the parameters make a path that two parsers could read differently.
    pub fn apply<'a>(&self, path: &'a NormalPath<'_>) -> Result<Cow<'a, str>, PathError> {
        match self {
            Self::Keep => Ok(Cow::Borrowed(path.as_str())),
            Self::StripSegments(count) => Ok(Cow::Borrowed(path.from_segment(*count))),
            Self::Template(pieces) => {
                let mut rewritten = String::with_capacity(path.as_str().len() + 16);
                for piece in pieces {
                    rewritten.push_str(match piece {
                        Piece::Text(text) => text,
                        Piece::Segment(index) => path.segment(*index),
                        Piece::FromSegment(index) => &path.from_segment(*index)[1..],
                    });
                }
                NormalPath::parse(&rewritten)?;
                Ok(Cow::Owned(rewritten))
            }
        }
    }
}

struct IsRest(bool);

/// The name in `{name}` or `{*name}`; `None` for a segment without braces.
fn parameter_name(segment: &str) -> Result<Option<(&str, IsRest)>, PatternError> {
    let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        return if segment.contains(['{', '}']) { Err(PatternError::BadParameter(segment.into())) } else { Ok(None) };
    };
    let (name, is_rest) = without_star(inner);
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name { Ok(Some((name, is_rest))) } else { Err(PatternError::BadParameter(segment.into())) }
}

/// What stands between braces, without the `*` of the rest.
fn without_star(inner: &str) -> (&str, IsRest) {
    inner.strip_prefix('*').map_or((inner, IsRest(false)), |name| (name, IsRest(true)))
}

fn literal(segment: &str) -> Result<Box<str>, PatternError> {
    let is_bad = matches!(segment, "." | "..")
        || segment.chars().any(|character| character.is_control() || matches!(character, '%' | '?' | '#' | '\\' | ';'));
    if is_bad { Err(PatternError::BadLiteral(segment.into())) } else { Ok(segment.into()) }
}

const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Most parameters in one pattern.
pub const MAX_PARAMETERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(text: &str, is_expected: impl Fn(&PatternError) -> bool) {
        let error = PathPattern::parse(text).unwrap_err();
        assert!(is_expected(&error), "{text}: {error}");
    }

    #[track_caller]
    fn check_rewrite(
        pattern: &str,
        rewrite: impl Fn(&PathPattern) -> Result<Rewrite, PatternError>,
        path: &str,
        expected: &str,
    ) {
        let rewrite = rewrite(&PathPattern::parse(pattern).unwrap()).unwrap();
        assert_eq!(rewrite.apply(&NormalPath::parse(path).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_pattern_knows_its_parameters_in_order() {
        let pattern = PathPattern::parse("/datasets/{id}/{*rest}").unwrap();
        assert_eq!(pattern.parameters().collect::<Vec<_>>(), ["id", "rest"]);
        assert_eq!((pattern.parameter("rest"), pattern.parameter("no")), (Some(1), None));
    }

    #[test]
    fn patterns_that_could_never_match_are_refused() {
        check_refused("datasets", |error| matches!(error, PatternError::NotAbsolute(_)));
        check_refused("/a//b", |error| matches!(error, PatternError::EmptySegment(_)));
        check_refused("/a/{id", |error| matches!(error, PatternError::BadParameter(_)));
        check_refused("/a/x{id}", |error| matches!(error, PatternError::BadParameter(_)));
        check_refused("/{}", |error| matches!(error, PatternError::BadParameter(_)));
        check_refused("/{a}/{a}", |error| matches!(error, PatternError::DuplicateParameter(_)));
        check_refused("/{*a}/b", |error| matches!(error, PatternError::RestNotLast(_)));
        check_refused("/caf%C3%A9", |error| matches!(error, PatternError::BadLiteral(_)));
        check_refused("/a/..", |error| matches!(error, PatternError::BadLiteral(_)));
        check_refused("/a;b", |error| matches!(error, PatternError::BadLiteral(_)));
        check_refused("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", |error| *error == PatternError::TooManyParameters);
    }

    #[test]
    fn a_stripped_prefix_leaves_a_path() {
        let strip = |pattern: &PathPattern| Rewrite::strip_prefix("/datasets", pattern);
        check_rewrite("/datasets/{*rest}", strip, "/datasets/a%20b/c", "/a%20b/c");
        check_rewrite("/datasets/{*rest}", strip, "/datasets/", "/");
        check_rewrite("/datasets", strip, "/datasets", "/");
        let pattern = PathPattern::parse("/datasets/{id}").unwrap();
        for prefix in ["datasets", "/data", "/datasets/x", "/datasets/", "/"] {
            assert!(matches!(Rewrite::strip_prefix(prefix, &pattern), Err(PatternError::NotAPrefix(_))), "{prefix}");
        }
    }

    #[test]
    fn a_template_puts_parameters_where_they_are_named() {
        let template = |pattern: &PathPattern| Rewrite::template("/v2/{id}.json/{*rest}", pattern);
        check_rewrite("/d/{id}/{*rest}", template, "/d/a%20b/c/d/", "/v2/a%20b.json/c/d/");
        let pattern = PathPattern::parse("/d/{id}").unwrap();
        assert!(matches!(Rewrite::template("/{no}", &pattern), Err(PatternError::UnknownParameter(_))));
        assert!(matches!(Rewrite::template("/../{id}", &pattern), Err(PatternError::BadTemplate { .. })));
    }

    #[test]
    fn a_template_says_of_a_parameter_what_the_path_says_of_it() {
        let pattern = PathPattern::parse("/d/{id}/{*rest}").unwrap();
        let refused = |template: &str| Rewrite::template(template, &pattern).unwrap_err().to_string();
        assert!(refused("/v2/{*id}").ends_with("write `{id}` here too, without `*`"), "{}", refused("/v2/{*id}"));
        assert!(refused("/v2/{rest}").ends_with("write `{*rest}` here too, with `*`"), "{}", refused("/v2/{rest}"));
    }

    #[test]
    fn a_wildcard_host_stands_for_names_below_it_only() {
        let host = HostPattern::parse("*.Example.org").unwrap();
        assert!(host.matches("a.example.org") && host.matches("a.b.example.org"));
        assert!(!host.matches("example.org") && !host.matches("badexample.org") && !host.matches(".example.org"));
        for bad in ["", "a b", "http://a", "a:80", "*.*.org", "a..b"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_in_brackets_is_one_and_is_compared_in_one_form() {
        for text in ["[2001:DB8::1]", "[2001:db8:0:0:0:0:0:1]", "[2001:0db8::0.0.0.1]"] {
            let host = HostPattern::parse(text).unwrap();
            assert!(host.matches("[2001:db8::1]"), "{text} is {host}");
        }
        for bad in ["[anything]", "[]", "[1.2.3.4]", "[::1", "*.[::1]", "[::1%25lo]", "[[::1]]"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
