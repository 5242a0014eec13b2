//! The checks of a token by their numbers, for whoever has to say which one failed.

/// A check of [`super::Verifier::verify`], whose documentation says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has its sentence below")]
pub enum Check {
    Length,
    Parts,
    Header,
    Payload,
    Issuer,
    Type,
    Key,
    Signature,
    Claims,
    Identity,
}

impl Check {
    /// All, in the order in which they are made.
    pub const ALL: [Self; 10] = [
        Self::Length,
        Self::Parts,
        Self::Header,
        Self::Payload,
        Self::Issuer,
        Self::Type,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::Identity,
    ];

    /// Its number in the documentation, from 1.
    pub const fn number(self) -> usize {
        self as usize + 1
    }

    /// A word for it, as a program reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Parts => "parts",
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Issuer => "issuer",
            Self::Type => "type",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Identity => "identity",
        }
    }

    /// What is checked.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Length => "it is not longer than `max_token_bytes`",
            Self::Parts => "it has three parts in base64url",
            Self::Header => "the header is a JSON object, `alg` is known, and nothing else is demanded",
            Self::Payload => "the payload is a JSON object without repeated members",
            Self::Issuer => "`iss` is a trusted issuer",
            Self::Type => "`typ` is that of an access token",
            Self::Key => "the issuer has a key of this `kid` and `alg`",
            Self::Signature => "the signature is right",
            Self::Claims => "`exp`, `nbf` and `aud` hold now and here",
            Self::Identity => "subject, scopes and roles are clean text",
        }
    }
}
