//! The patterns of one host as a tree, searched segment by segment.

use std::collections::HashMap;

use super::pattern::{MAX_PARAMETERS, PathPattern, Segment};

/// A node: what may follow, the more specific first.
#[derive(Debug, Default)]
pub(super) struct Tree {
    literals: HashMap<Box<str>, Self>,
    parameter: Option<Box<Self>>,
    /// Routes whose `{*rest}` begins here.
    rest: Vec<usize>,
    /// Routes whose pattern ends here.
    end: Vec<usize>,
}

/// What a pattern took from a path, in the order of its parameters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parameters<'a> {
    pub(super) values: [&'a str; MAX_PARAMETERS],
    pub(super) count: usize,
}

impl Tree {
    /// The routes of exactly this pattern's shape, to be added to.
    pub(super) fn leaf(&mut self, pattern: &PathPattern) -> &mut Vec<usize> {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                Segment::Rest(_) => return &mut node.rest,
            };
        }
        &mut node.end
    }

    /// The routes of the most specific pattern that matches `path`, which begins with a slash.
    pub(super) fn find<'a>(&self, path: &'a str, parameters: &mut Parameters<'a>) -> Option<&[usize]> {
        self.find_after_slash(path.strip_prefix('/')?, parameters)
    }

    /// Depth is bounded by the patterns, not by the path. Tries at most the literal, the parameter and the rest at each
    /// level, so a path costs at most 2 to the power of the parameters of the longest pattern; those are at most eight.
    fn find_after_slash<'a>(&self, path: &'a str, parameters: &mut Parameters<'a>) -> Option<&[usize]> {
        let (segment, remaining) = match path.split_once('/') {
            Some((segment, remaining)) => (segment, Some(remaining)),
            None => (path, None),
        };
        if let Some(node) = self.literals.get(segment)
            && let Some(found) = node.find_remaining(remaining, parameters)
        {
            return Some(found);
        }
        if let Some(node) = &self.parameter
            && !segment.is_empty()
        {
            let count = parameters.count;
            parameters.push(segment);
            if let Some(found) = node.find_remaining(remaining, parameters) {
                return Some(found);
            }
            parameters.count = count;
        }
        if self.rest.is_empty() {
            return None;
        }
        parameters.push(path);
        Some(&self.rest)
    }

    fn find_remaining<'a>(&self, remaining: Option<&'a str>, parameters: &mut Parameters<'a>) -> Option<&[usize]> {
        match remaining {
            Some(remaining) => self.find_after_slash(remaining, parameters),
            None if self.end.is_empty() => None,
            None => Some(&self.end),
        }
    }
}

impl<'a> Parameters<'a> {
    fn push(&mut self, value: &'a str) {
        // A pattern has at most MAX_PARAMETERS; `PathPattern::parse` refuses more.
        if let Some(slot) = self.values.get_mut(self.count) {
            *slot = value;
            self.count += 1;
        }
    }
}
