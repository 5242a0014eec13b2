//! Parameters of a query: each at most once.

use super::IssuerError;
use super::form::decode_form_text;

/// The value of a parameter; `None`: it is not there. Others are passed over.
///
/// # Errors
/// [`IssuerError::Query`]: it stands twice, or cannot be decoded.
pub(super) fn parameter(query: Option<&str>, name: &'static str) -> Result<Option<String>, IssuerError> {
    let mut found = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A name that cannot be decoded is none of ours.
        if decode_form_text(key).is_ok_and(|key| key == name) {
            let value = decode_form_text(value).map_err(|_| IssuerError::Query { name })?;
            if found.replace(value).is_some() {
                return Err(IssuerError::Query { name });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: Option<&str>, expected: Result<Option<&str>, ()>) {
        let found = parameter(query, "scope").map_err(|_| ());
        assert_eq!(found, expected.map(|value| value.map(str::to_owned)), "{query:?}");
    }

    #[test]
    fn a_parameter_stands_once_or_not_at_all() {
        check(None, Ok(None));
        check(Some(""), Ok(None));
        check(Some("x=1&y&=&%zz=2"), Ok(None));
        check(Some("x=1&scope=a+b%20c&y"), Ok(Some("a b c")));
        check(Some("%73cope=global"), Ok(Some("global")));
        check(Some("scope"), Ok(Some("")));
        check(Some("scope=a&scope=a"), Err(()));
        check(Some("scope=%zz"), Err(()));
        check(Some("scope=%ff"), Err(()));
    }
}
