//! An error with what led to it, in one line.

use std::error::Error;

/// An error with all its causes, for the log and for people.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // A transparent error says the same as its source.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("the door is shut")]
        Shut(#[source] std::fmt::Error),
        #[error(transparent)]
        Transparent(Box<Self>),
        #[error("the door is shut: {0}")]
        Repeated(#[source] std::fmt::Error),
    }

    #[test]
    fn every_cause_is_told_once() {
        let told = format!("the door is shut: {}", std::fmt::Error);
        assert_eq!(chain(&Failure::Shut(std::fmt::Error)), told);
        assert_eq!(chain(&Failure::Transparent(Box::new(Failure::Shut(std::fmt::Error)))), told);
        assert_eq!(chain(&Failure::Repeated(std::fmt::Error)), told);
    }
}
