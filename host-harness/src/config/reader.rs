//! Reading tables by key, with the place of everything.
//!
//! Why not deserialisation into structures: that ends at the first error; here one pass finds all of them, and each
//! knows its line.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, suggestion};

/// A value and where it stands: the byte offset.
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// Collects problems of one file.
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins, in order.
    starts: Vec<usize>,
    problems: RefCell<Vec<(usize, Problem)>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { file, text, starts, problems: RefCell::default() }
    }

    /// Line of a byte offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    /// Byte offset at which a line begins.
    pub(super) fn offset(&self, line: usize) -> usize {
        line.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(0)
    }

    fn before(&self, at: usize) -> &str {
        let mut end = at.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.get(..end).unwrap_or_default()
    }

    /// Notes what is wrong at a place.
    pub(super) fn problem(&self, at: usize, code: &'static str, reason: impl Into<String>, help: impl Into<String>) {
        let start = self.offset(self.line(at));
        let column = self.before(at).get(start..).unwrap_or_default().chars().count() + 1;
        self.problems.borrow_mut().push((
            at,
            Problem {
                file: self.file.to_owned(),
                line: Some(self.line(at)),
                column: Some(column),
                code,
                reason: reason.into(),
                help: help.into(),
            },
        ));
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// All problems, in the order of their places.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| *at);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// A table whose keys are asked for one by one; what was not asked for is unknown.
pub(super) struct Section<'a, 'i> {
    report: &'a Report<'a>,
    table: &'a DeTable<'i>,
    /// As in `[host]`, for messages.
    title: &'static str,
    /// Where it begins.
    pub(super) at: usize,
    known: RefCell<Vec<&'static str>>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(report: &'a Report<'a>, table: &'a DeTable<'i>, title: &'static str, at: usize) -> Self {
        Self { report, table, title, at, known: RefCell::default() }
    }

    /// The value of a key.
    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.borrow_mut().push(key);
        self.table.get(key)
    }

    /// Says that a value is not what it should be.
    pub(super) fn wrong(&self, at: usize, key: &str, must: &str) {
        self.report.problem(at, "config-value", format!("{key} in {} must be {must}", self.title), "correct the value");
    }

    /// Says that a key is missing, when it is.
    pub(super) fn required<T>(&self, key: &'static str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.table.contains_key(key) {
            let reason = format!("{key} is missing in {}", self.title);
            self.report.problem(self.at, "config-missing", reason, format!("add for example {example}"));
        }
        value
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        let text = text(value);
        if text.is_none() {
            self.wrong(value.span().start, key, "a text in quotes");
        }
        text
    }

    /// The name of a file or directory. An empty one would be the directory of the configuration.
    pub(super) fn path(&self, key: &'static str) -> Option<At<String>> {
        let text = self.text(key)?;
        if text.value.is_empty() {
            self.wrong(text.at, key, "a path");
            return None;
        }
        Some(text)
    }

    /// A whole number within a range.
    pub(super) fn integer(&self, key: &'static str, range: Range<i64>) -> Option<At<i64>> {
        let value = self.get(key)?;
        let at = value.span().start;
        let number = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(at, key, &format!("a whole number from {} to {}", range.start, range.end - 1));
        }
        number.map(|value| At { value, at })
    }

    /// On or off.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let DeValue::Boolean(on) = value.get_ref() else {
            self.wrong(value.span().start, key, "true or false");
            return None;
        };
        Some(*on)
    }

    /// A list of texts; those that are none are complained about and left out.
    pub(super) fn texts(&self, key: &'static str) -> Vec<At<String>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(elements) = value.get_ref() else {
            self.wrong(value.span().start, key, "a list of texts, such as [\"a\", \"b\"]");
            return Vec::new();
        };
        let element = |element: &Spanned<DeValue<'i>>| {
            let text = text(element);
            if text.is_none() {
                self.wrong(element.span().start, key, "a list of texts, such as [\"a\", \"b\"]");
            }
            text
        };
        elements.iter().filter_map(element).collect()
    }

    /// A table within.
    pub(super) fn table(&self, key: &'static str) -> Option<At<&'a DeTable<'i>>> {
        let value = self.get(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(value.span().start, key, "a table");
            return None;
        };
        Some(At { value: table, at: value.span().start })
    }

    /// A list of tables: `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<At<&'a DeTable<'i>>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let wrong = |at| self.wrong(at, key, &format!("written as [[{key}]]"));
        let DeValue::Array(elements) = value.get_ref() else {
            wrong(value.span().start);
            return Vec::new();
        };
        let element = |element: &'a Spanned<DeValue<'i>>| {
            let at = element.span().start;
            match element.get_ref() {
                DeValue::Table(table) => Some(At { value: table, at }),
                _ => {
                    wrong(at);
                    None
                }
            }
        };
        elements.iter().filter_map(element).collect()
    }

    /// Complains about every key that was not asked for.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        for key in self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let written = key.get_ref().as_ref();
            let reason = format!("{written:?} is not known in {}", self.title);
            self.report.problem(
                key.span().start,
                "config-unknown-key",
                reason,
                suggestion(written, known.iter().copied()),
            );
        }
    }
}

/// A text, if it is one.
pub(super) fn text(value: &Spanned<DeValue<'_>>) -> Option<At<String>> {
    match value.get_ref() {
        DeValue::String(text) => Some(At { value: text.as_ref().to_owned(), at: value.span().start }),
        _ => None,
    }
}
