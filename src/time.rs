//! Wall-clock time as the JWT RFCs count it, and RFC 3339 for the logs.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Whole seconds since 1970-01-01T00:00:00Z, leap seconds ignored: `NumericDate` of RFC 7519 section 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The time now. A clock that stands before 1970 counts as 1970: every token is then not yet valid or expired,
    /// which refuses requests instead of ending the process.
    pub fn now() -> Self {
        Self(Moment::now().0.as_secs())
    }

    /// This time later by `duration`, fractions of a second cut off; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl UnixSeconds {
    /// A time as people write it: RFC 3339, or seconds since 1970.
    ///
    /// # Errors
    /// What it should have been.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(seconds) = text.parse::<u64>() {
            let in_range = i64::try_from(seconds).is_ok_and(|seconds| Timestamp::from_second(seconds).is_ok());
            return if in_range { Ok(Self(seconds)) } else { Err(NOT_A_TIME) };
        }
        let timestamp: Timestamp = text.parse().map_err(|_| NOT_A_TIME)?;
        u64::try_from(timestamp.as_second()).map(Self).map_err(|_| NOT_A_TIME)
    }

    /// RFC 3339 in the time zone of this machine, with whole seconds.
    pub fn local(self) -> String {
        let timestamp = i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let Some(timestamp) = timestamp else { return self.to_string() };
        timestamp.display_with_offset(TimeZone::system().to_offset(timestamp)).to_string()
    }
}

/// RFC 3339 in UTC with whole seconds.
impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            Some(timestamp) => timestamp.fmt(f),
            None => write!(f, "{} s", self.0),
        }
    }
}

/// A wall-clock moment with the clock's full precision, as time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment now; 1970 if the clock stands before that.
    pub fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let now = SystemTime::now();
        Self(now.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// The moment that many milliseconds after the beginning of 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Milliseconds since the beginning of 1970.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// This moment later by `duration`; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// This moment earlier by `duration`; 1970 at the least.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment cut to whole seconds.
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0.as_secs())
    }

    /// The milliseconds after the whole second, 0 to 999.
    pub const fn millisecond(self) -> u32 {
        self.0.subsec_millis()
    }
}

impl From<UnixSeconds> for Moment {
    fn from(seconds: UnixSeconds) -> Self {
        Self(Duration::from_secs(seconds.0))
    }
}

/// RFC 3339 in UTC with milliseconds.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.seconds().to_string();
        write!(f, "{}.{:03}Z", second.trim_end_matches('Z'), self.millisecond())
    }
}

/// When something came that may have to wait, and how the time goes on from there: by the clock that nobody sets, so that its
/// steps have dates in their order.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    moment: Moment,
    begun: Instant,
}

impl Arrival {
    /// Of what comes now.
    pub fn begin() -> Self {
        Self::new(Moment::now(), Instant::now())
    }

    /// Of what came at `moment`, which was `begun` for timers. Until `begun`, should it lie ahead, the time stands still.
    pub const fn new(moment: Moment, begun: Instant) -> Self {
        Self { moment, begun }
    }

    /// When it came.
    pub const fn came_at(self) -> UnixSeconds {
        self.moment.seconds()
    }

    /// What time it is by now.
    pub fn now(self) -> UnixSeconds {
        self.moment.plus(self.begun.elapsed()).seconds()
    }
}

const NOT_A_TIME: &str = "it is neither RFC 3339, as in `2026-11-23T14:02:00Z`, nor seconds since 1970";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_an_arrival_keeps_its_fractions_and_does_not_go_back() {
        let moment = Moment::from_millis(10_900);
        let arrival = Arrival::new(moment, Instant::now() - Duration::from_millis(1200));
        assert_eq!(arrival.came_at(), UnixSeconds(10));
        // Cut to seconds at each end, it would be 11.
        assert!(arrival.now() >= UnixSeconds(12), "{}", arrival.now());
        let ahead = Arrival::new(moment, Instant::now() + Duration::from_secs(3600));
        assert_eq!((ahead.came_at(), ahead.now()), (UnixSeconds(10), UnixSeconds(10)));
    }

    #[test]
    fn a_time_is_read_as_people_write_it() {
        for text in ["1800000000", "2027-01-15T08:00:00Z", "2027-01-15T09:00:00+01:00", "2027-01-15 08:00:00.9Z"] {
            assert_eq!(UnixSeconds::parse(text), Ok(UnixSeconds(1_800_000_000)), "{text}");
        }
        for text in
            ["", "now", "2027-01-15", "2027-01-15T08:00:00", "-1", "1969-12-31T23:59:59Z", "99999999999999999999"]
        {
            assert!(UnixSeconds::parse(text).is_err(), "{text}");
        }
        assert!(UnixSeconds::parse("18446744073709551615").is_err(), "no calendar reaches there");
    }
}
