//! Times as people tell them: `3 minutes ago`.

use crate::time::UnixSeconds;

/// Units with their seconds, the longest first.
const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];

/// `3 minutes ago`, `in 5 days`, `now`; cut to the largest whole unit.
pub(super) fn relative(time: UnixSeconds, now: UnixSeconds) -> String {
    if time == now {
        return "now".to_owned();
    }
    let is_past = time < now;
    let seconds = if is_past { now.since(time) } else { time.since(now) }.as_secs();
    let (length, unit) = UNITS.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, "second"));
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    if is_past { format!("{count} {unit}{plural} ago") } else { format!("in {count} {unit}{plural}") }
}

/// What a time in a claim means now: `expired 3 minutes ago`.
pub(super) fn meaning(claim: &str, time: UnixSeconds, now: UnixSeconds) -> String {
    let relative = relative(time, now);
    match claim {
        "exp" if time <= now => format!("expired {relative}"),
        "exp" => format!("expires {relative}"),
        "nbf" if time > now => format!("valid {relative}, not before"),
        "nbf" => format!("valid since {relative}"),
        "iat" => format!("issued {relative}"),
        _ => relative,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, expected: &str) {
        let now = UnixSeconds(1_800_000_000);
        assert_eq!(relative(UnixSeconds(now.0.saturating_add_signed(seconds)), now), expected);
    }

    #[test]
    fn a_time_is_told_in_its_largest_whole_unit() {
        check(0, "now");
        check(-1, "1 second ago");
        check(-185, "3 minutes ago");
        check(59, "in 59 seconds");
        check(3_600, "in 1 hour");
        check(-2 * 86_400 - 5, "2 days ago");
    }

    #[test]
    fn a_token_that_expires_now_has_expired() {
        let now = UnixSeconds(1_800_000_000);
        assert_eq!(meaning("exp", now, now), "expired now");
        assert_eq!(meaning("exp", UnixSeconds(now.0 + 60), now), "expires in 1 minute");
        assert_eq!(meaning("nbf", UnixSeconds(now.0 + 60), now), "valid in 1 minute, not before");
    }
}
