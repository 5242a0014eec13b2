//! The checks of a token by their numbers, for whoever has to say which one failed.

/// A check of [`super::Verifier::verify`], whose documentation says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has its sentence below")]
pub enum Check {
    Length,
    Parts,
    Json,
    Header,
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
        Self::Json,
        Self::Header,
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
            Self::Json => "json",
            Self::Header => "header",
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
            Self::Json => "header and payload are JSON objects without repeated members",
            Self::Header => "`alg` is known, and the header demands nothing else",
            Self::Issuer => "`iss` is a trusted issuer",
            Self::Type => "`typ` is that of an access token",
            Self::Key => "the issuer has a key of this `kid` and `alg`",
            Self::Signature => "the signature is right",
            Self::Claims => "`exp`, `nbf` and `aud` hold now and here",
            Self::Identity => "subject, scopes and roles are clean text",
        }
    }
}
