//! What can happen that an audit wants to know of: one exhaustive list, and the name and outcome of each.

/// Something that somebody did, or failed to do, to an account, a session or a key.
///
/// Nothing in here is a secret: no password, no token, no key. A name that was typed and belongs to nobody is not in here
/// either, because people type passwords into the wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A password, or what stands for it, was right, and a token was issued.
    LoginSucceeded {
        /// What the client calls itself.
        client_id: &'a str,
    },
    /// It was not, or the account may not log in.
    LoginFailed {
        /// Why, in one word.
        reason: LoginFailure,
    },
    /// It was not looked at, because too many before it were wrong.
    LoginThrottled {
        /// Whose tries were too many.
        reason: Throttle,
    },
    /// A session got new tokens.
    Refreshed,
    /// A refresh token came that was used before; the session was ended.
    RefreshReplayed,
    /// Somebody logged out.
    LoggedOut {
        /// Which sessions were to end.
        scope: LogoutScope,
        /// How many did.
        sessions: u64,
    },
    /// Sessions were ended by other means than their owner's logout.
    SessionsRevoked {
        /// Why, in one word, as the session's record has it: `revoked`, `password_changed`, `account_disabled` and others.
        reason: &'static str,
        /// How many.
        sessions: u64,
    },
    /// A password was replaced.
    PasswordChanged,
    /// A wrong password was given where the old one is asked for.
    PasswordChangeFailed,
    /// A login's password was hashed anew, by the scheme and cost of new hashes.
    HashUpgraded,
    /// Somebody made an account for themselves.
    Registered,
    /// An account was made for somebody.
    UserAdded,
    /// The account may log in again.
    UserEnabled,
    /// The account may no longer log in.
    UserDisabled,
    /// The account is no more.
    UserRemoved,
    /// Roles and scopes were given.
    UserGranted {
        /// Which roles.
        roles: &'a [String],
        /// Which scopes.
        scopes: &'a [String],
    },
    /// Roles and scopes were taken away.
    UserRevoked {
        /// Which roles.
        roles: &'a [String],
        /// Which scopes.
        scopes: &'a [String],
    },
    /// A signing key was made.
    KeyGenerated {
        /// Its name.
        kid: &'a str,
        /// JWA name.
        algorithm: &'a str,
    },
    /// Another key signs from now on, or from a time that was announced.
    KeyRotated {
        /// The new one.
        kid: &'a str,
        /// JWA name.
        algorithm: &'a str,
    },
    /// A key no longer verifies.
    KeyRetired {
        /// Its name.
        kid: &'a str,
        /// JWA name.
        algorithm: &'a str,
    },
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFailure {
    /// Nobody has that login.
    UnknownUser,
    /// Several people have it.
    AmbiguousLogin,
    /// The password is another.
    WrongPassword,
    /// The account is disabled.
    Disabled,
    /// The account's record cannot be used.
    MalformedRecord,
    /// The password was right, and the account lacks a scope that was asked for.
    ScopeNotGranted,
}

/// Whose failed logins were too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// Those on one account, from anywhere.
    Account,
    /// Those on one account from one address.
    AccountAndAddress,
    /// Those from one address, on any account.
    Address,
}

/// Which sessions a logout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoutScope {
    /// The one that asks.
    Local,
    /// All of the person.
    Global,
    /// All of the person but the one that asks.
    Others,
}

impl Event<'_> {
    /// Every name with each of its outcomes: the labels of the metric. `index` counts in this order.
    pub const ALL: [(&'static str, &'static str); 20] = [
        ("login", "ok"),
        ("login", "failed"),
        ("login", "throttled"),
        ("refresh", "ok"),
        ("refresh", "replayed"),
        ("logout", "ok"),
        ("session_revoked", "ok"),
        ("password_changed", "ok"),
        ("password_changed", "failed"),
        ("hash_upgraded", "ok"),
        ("registered", "ok"),
        ("user_added", "ok"),
        ("user_enabled", "ok"),
        ("user_disabled", "ok"),
        ("user_removed", "ok"),
        ("user_granted", "ok"),
        ("user_revoked", "ok"),
        ("key_generated", "ok"),
        ("key_rotated", "ok"),
        ("key_retired", "ok"),
    ];

    /// The place of its name and outcome in [`Self::ALL`].
    pub(super) const fn index(&self) -> usize {
        match self {
            Self::LoginSucceeded { .. } => 0,
            Self::LoginFailed { .. } => 1,
            Self::LoginThrottled { .. } => 2,
            Self::Refreshed => 3,
            Self::RefreshReplayed => 4,
            Self::LoggedOut { .. } => 5,
            Self::SessionsRevoked { .. } => 6,
            Self::PasswordChanged => 7,
            Self::PasswordChangeFailed => 8,
            Self::HashUpgraded => 9,
            Self::Registered => 10,
            Self::UserAdded => 11,
            Self::UserEnabled => 12,
            Self::UserDisabled => 13,
            Self::UserRemoved => 14,
            Self::UserGranted { .. } => 15,
            Self::UserRevoked { .. } => 16,
            Self::KeyGenerated { .. } => 17,
            Self::KeyRotated { .. } => 18,
            Self::KeyRetired { .. } => 19,
        }
    }

    /// What happened, in one word.
    pub const fn name(&self) -> &'static str {
        Self::ALL[self.index()].0
    }

    /// How it went.
    pub const fn outcome(&self) -> &'static str {
        Self::ALL[self.index()].1
    }

    /// Why, in one word, where there is more than one reason.
    pub(super) const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::LoginFailed { reason } => Some(reason.name()),
            Self::LoginThrottled { reason } => Some(reason.name()),
            Self::SessionsRevoked { reason, .. } => Some(reason),
            Self::LoginSucceeded { .. }
            | Self::Refreshed
            | Self::RefreshReplayed
            | Self::LoggedOut { .. }
            | Self::PasswordChanged
            | Self::PasswordChangeFailed
            | Self::HashUpgraded
            | Self::Registered
            | Self::UserAdded
            | Self::UserEnabled
            | Self::UserDisabled
            | Self::UserRemoved
            | Self::UserGranted { .. }
            | Self::UserRevoked { .. }
            | Self::KeyGenerated { .. }
            | Self::KeyRotated { .. }
            | Self::KeyRetired { .. } => None,
        }
    }
}

impl LoginFailure {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::AmbiguousLogin => "ambiguous_login",
            Self::WrongPassword => "wrong_password",
            Self::Disabled => "disabled",
            Self::MalformedRecord => "malformed_record",
            Self::ScopeNotGranted => "scope_not_granted",
        }
    }
}

impl Throttle {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::AccountAndAddress => "account_and_address",
            Self::Address => "address",
        }
    }
}

impl LogoutScope {
    /// As the request names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Global => "global",
            Self::Others => "others",
        }
    }
}
