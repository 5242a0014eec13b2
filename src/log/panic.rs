//! What a panic leaves behind: one line of the log, and nothing of what the process was working on.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// From now on every panic of the process is counted in `count` and told in the log, instead of on stderr, where it would be
/// several lines of plain text, and would wait for whoever reads them. To be called once the log is set up.
pub fn report_panics(count: Arc<AtomicU64>) {
    std::panic::set_hook(Box::new(move |panic| {
        count.fetch_add(1, Relaxed);
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string);
        tracing::error!(
            panic.message = told(panic.payload()),
            panic.location = location,
            panic.thread = thread.name(),
            "A thread panicked, which is a defect"
        );
    }));
}

/// The message, as far as it can hold nothing of a client or a store: such as a string that was cut in the wrong place is quoted in
/// it. It ends before the first quote or
/// bracket, behind which values stand, and at [`MAX_MESSAGE_BYTES`].
fn told(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let whole = message.split(['"', '\'', '`', '\n', '[', '{']).next().unwrap_or_default();
    let kept = &whole[..whole.floor_char_boundary(MAX_MESSAGE_BYTES)];
    let mut shown: String = kept.chars().map(|shown| if shown.is_control() { '?' } else { shown }).collect();
    if kept.len() < message.len() {
        shown.push('\u{2026}');
    }
    shown
}

/// Enough for the messages of ours and of the standard library.
const MAX_MESSAGE_BYTES: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(payload: &(dyn Any + Send), expected: &str) {
        assert_eq!(told(payload), expected);
    }

    #[test]
    fn a_message_is_told_up_to_what_it_quotes() {
        check(&"the clock went backwards", "the clock went backwards");
        check(
            &"index out of bounds: the len is 3 but the index is 5".to_owned(),
            "index out of bounds: the len is 3 but the index is 5",
        );
        check(
            &"byte index 1 is not a char boundary; it is inside 'é' of `é secret`".to_owned(),
            "byte index 1 is not a char boundary; it is inside …",
        );
        check(&"it holds: Malformed(\"a password\")".to_owned(), "it holds: Malformed(…");
        check(&"no UTF-8: FromUtf8Error { bytes: [112, 97, 115] }".to_owned(), "no UTF-8: FromUtf8Error …");
        check(&"two\nlines", "two…");
        check(&"\u{1b}red", "?red");
        check(&"é".repeat(500), &format!("{}…", "é".repeat(60)));
        check(&7_u32, "");
    }
}
