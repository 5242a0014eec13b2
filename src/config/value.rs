//! Values as the file writes them: numbers with bounds, durations with a unit, choices, addresses, lists.
//!
//! Each function makes a reader of one value: it gives the value, or notes what is wrong with it.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Fault, Findings, Node, names, similar};

/// Longest duration that any key takes. Far above use, far below what arithmetic on Unix time can hold.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Shortest duration that any key takes: zero would time out before it began.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// `true` or `false`.
pub(super) fn boolean(node: &Node<'_>, findings: &mut Findings) -> Option<bool> {
    findings.accept(node, node.value.as_bool().ok_or_else(|| node.wrong_type("`true` or `false`")))
}

/// A whole number within bounds, both included.
pub(super) fn integer<T>(bounds: RangeInclusive<u64>) -> impl FnOnce(&Node<'_>, &mut Findings) -> Option<T>
where
    T: TryFrom<u64>,
{
    move |node, findings| {
        let DeValue::Integer(number) = node.value else {
            return findings.accept(node, Err(node.wrong_type("a whole number")));
        };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.filter(|number| bounds.contains(number)).and_then(|number| T::try_from(number).ok());
        let fault = || Fault::new(format!("must be from {} to {}", bounds.start(), bounds.end()));
        findings.accept(node, number.ok_or_else(fault))
    }
}

/// A text, read further by `parse`.
pub(super) fn text<T>(parse: impl Fn(&str) -> Result<T, Fault>) -> impl Fn(&Node<'_>, &mut Findings) -> Option<T> {
    move |node, findings| {
        let result = match node.value.as_str() {
            Some(text) => parse(text),
            None => Err(node.wrong_type("a string")),
        };
        findings.accept(node, result)
    }
}

/// Any text but the empty one.
pub(super) fn word(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new("must not be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new("must not hold control characters"));
    }
    Ok(text.to_owned())
}

/// A text, or nothing for the empty one.
pub(super) fn word_or_nothing(text: &str) -> Result<Option<String>, Fault> {
    if text.is_empty() { Ok(None) } else { word(text).map(Some) }
}

/// One of some words.
pub(super) fn choice<T: Copy>(choices: &[(&'static str, T)]) -> impl Fn(&str) -> Result<T, Fault> {
    move |text| {
        let known = || choices.iter().map(|(name, _)| *name);
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let fault = Fault::new(format!("must be one of {}", names(known())));
            match similar(&text.to_ascii_lowercase(), known()) {
                Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
                None => fault,
            }
        })
    }
}

/// A duration within bounds, both included.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&Node<'_>, &mut Findings) -> Option<Duration> {
    move |node, findings| {
        let result = match node.value {
            DeValue::String(text) => parse_duration(text).and_then(|duration| within(duration, &bounds)),
            DeValue::Integer(number) if number.radix() == 10 && !number.as_str().starts_with('-') => {
                Err(Fault::new("is a duration, which needs a unit")
                    .hint(format!("write \"{number}s\" for seconds; the units are ms, s, m, h and d")))
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => Err(node.wrong_type("a duration such as \"30s\"")),
        };
        findings.accept(node, result)
    }
}

/// A duration, or `"none"` for no limit.
pub(super) fn duration_or_none(node: &Node<'_>, findings: &mut Findings) -> Option<Option<Duration>> {
    if node.value.as_str() == Some("none") {
        return Some(None);
    }
    match node.value.as_str().map(parse_duration) {
        Some(Ok(Duration::ZERO)) => {
            findings.accept(node, Err(Fault::new("must not be zero").hint("write \"none\" for no limit")))
        }
        _ => duration(SHORTEST..=LONGEST)(node, findings).map(Some),
    }
}

/// Reads `"30s"`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, Fault> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let fault =
        || Fault::new("is no duration").hint("write a whole number and a unit: ms, s, m, h or d, as in \"30s\"");
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "" if !number.is_empty() => {
            let fault = Fault::new("is a duration, which needs a unit");
            return Err(fault.hint(format!("write \"{number}s\" for seconds; the units are ms, s, m, h and d")));
        }
        "none" if number.is_empty() => return Err(Fault::new("needs a limit, so \"none\" is not possible here")),
        _ => return Err(fault()),
    };
    if number.is_empty() {
        return Err(fault());
    }
    // A number that no u64 holds is a duration, only far too long; `within` says so.
    let number = number.parse::<u64>().unwrap_or(u64::MAX);
    Ok(Duration::from_millis(number.saturating_mul(milliseconds)))
}

pub(super) fn within(duration: Duration, bounds: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    Err(Fault::new(format!("must be from {} to {}", written(*bounds.start()), written(*bounds.end()))))
}

/// A duration as the file would write it.
fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("d", 24 * 3600 * 1000), ("h", 3600 * 1000), ("m", 60 * 1000), ("s", 1000)];
    let unit = units.into_iter().find(|(_, length)| milliseconds > 0 && milliseconds.is_multiple_of(*length));
    match unit {
        Some((unit, length)) => format!("\"{}{unit}\"", milliseconds / length),
        None if milliseconds == 0 => "\"0s\"".to_owned(),
        None => format!("\"{milliseconds}ms\""),
    }
}

/// Longest list of values. Real ones have some dozens.
const MAX_ELEMENTS: usize = 10_000;

/// A list, each element read by `element`. One bad element does not hide the next.
pub(super) fn list<T>(
    element: impl Fn(&Node<'_>, &mut Findings) -> Option<T>,
) -> impl Fn(&Node<'_>, &mut Findings) -> Option<Vec<T>> {
    move |node, findings| {
        let nodes = findings.accept(node, node.elements())?;
        if nodes.len() > MAX_ELEMENTS {
            let fault = Fault::new(format!("has {} elements, more than {MAX_ELEMENTS}", nodes.len()));
            return findings.accept(node, Err(fault));
        }
        let values: Vec<Option<T>> = nodes.iter().map(|node| element(node, findings)).collect();
        values.into_iter().collect()
    }
}

/// A list that must have an element, and none twice.
pub(super) fn set<T: PartialEq>(
    element: impl Fn(&Node<'_>, &mut Findings) -> Option<T>,
) -> impl Fn(&Node<'_>, &mut Findings) -> Option<Vec<T>> {
    move |node, findings| {
        let values = distinct(&element)(node, findings)?;
        if values.is_empty() {
            return findings.accept(node, Err(Fault::new("must not be empty")));
        }
        Some(values)
    }
}

/// A list without an element that is there twice.
pub(super) fn distinct<T: PartialEq>(
    element: impl Fn(&Node<'_>, &mut Findings) -> Option<T>,
) -> impl Fn(&Node<'_>, &mut Findings) -> Option<Vec<T>> {
    move |node, findings| {
        let values = list(&element)(node, findings)?;
        let nodes = findings.accept(node, node.elements())?;
        let mut good = true;
        for (index, (value, node)) in values.iter().zip(&nodes).enumerate() {
            if values[..index].contains(value) {
                good = false;
                findings.problems.push(node.problem(format!("`{}` is in the list already", node.path)));
            }
        }
        good.then_some(values)
    }
}
