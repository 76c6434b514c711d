//! The lines that the viewer holds, and which of them it shows. Filtering keeps an index beside the lines, so that a
//! hundred thousand of them are neither copied nor drawn again.

use std::ops::Range;

use super::ansi;
use crate::domain::log::{Level, LogLine};

/// The lines of one job's log, in order.
#[derive(Default)]
pub struct LogBook {
    lines: Vec<LogLine>,
    /// Positions in `lines` of those that the filter lets through, ascending.
    shown: Vec<u32>,
    least: Option<Level>,
    needle: String,
    last: u64,
}

impl LogBook {
    /// Number of the last line taken in; 0 before the first. Lines after it are still wanted.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How many lines are here, and how many of them are shown.
    pub fn counts(&self) -> (usize, usize) {
        (self.lines.len(), self.shown.len())
    }

    /// Takes lines in. One that is not newer than the last is a repeat and is dropped.
    pub fn add(&mut self, lines: Vec<LogLine>) {
        for line in lines {
            if line.n <= self.last {
                continue;
            }
            self.last = line.n;
            if self.lets_through(&line) {
                self.shown.push(self.lines.len() as u32);
            }
            self.lines.push(line);
        }
    }

    /// Shows only lines of `least` or a higher level that contain `text`, in any case.
    pub fn filter(&mut self, least: Option<Level>, text: &str) {
        self.least = least;
        self.needle = text.trim().to_lowercase();
        let mut shown = std::mem::take(&mut self.shown);
        shown.clear();
        shown.extend(
            (0u32..)
                .zip(&self.lines)
                .filter(|(_, line)| self.lets_through(line))
                .map(|(i, _)| i),
        );
        self.shown = shown;
    }

    /// Forgets the lines, not the place: lines that come later go on where these ended.
    pub fn clear(&mut self) {
        self.lines = Vec::new();
        self.shown = Vec::new();
    }

    /// The shown lines at these positions among the shown; those that exist.
    pub fn slice(&self, range: Range<usize>) -> Vec<LogLine> {
        let end = range.end.min(self.shown.len());
        let start = range.start.min(end);
        self.shown[start..end]
            .iter()
            .filter_map(|i| self.lines.get(*i as usize).cloned())
            .collect()
    }

    /// The line `n`, if it is here.
    pub fn line(&self, n: u64) -> Option<LogLine> {
        let at = self.lines.binary_search_by_key(&n, |l| l.n).ok()?;
        self.lines.get(at).cloned()
    }

    /// Where the line `n`, or the next one that is shown, stands among the shown.
    pub fn position(&self, n: u64) -> usize {
        self.shown
            .partition_point(|i| self.lines.get(*i as usize).is_some_and(|l| l.n < n))
    }

    fn lets_through(&self, line: &LogLine) -> bool {
        self.least.is_none_or(|least| line.level >= least) && contains(&ansi::plain(&line.message), &self.needle)
    }
}

/// Whether `text` contains the lower-cased `needle`, in any case. Most lines and needles are ASCII, which needs no copy.
fn contains(text: &str, needle: &str) -> bool {
    if needle.is_empty() {
        return true;
    }
    if !needle.is_ascii() {
        return text.to_lowercase().contains(needle);
    }
    let needle = needle.as_bytes();
    text.as_bytes()
        .windows(needle.len())
        .any(|w| w.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::from_millis;

    fn line(n: u64, level: Level, message: &str) -> LogLine {
        LogLine {
            n,
            at: from_millis(0),
            attempt: 1,
            level,
            message: message.into(),
        }
    }

    fn numbers(book: &LogBook) -> Vec<u64> {
        book.slice(0..usize::MAX).into_iter().map(|l| l.n).collect()
    }

    #[test]
    fn repeats_are_dropped_and_clearing_keeps_the_place() {
        let mut book = LogBook::default();
        book.add((1..=3).map(|n| line(n, Level::Info, "x")).collect());
        book.add((2..=4).map(|n| line(n, Level::Info, "x")).collect());
        assert_eq!(numbers(&book), [1, 2, 3, 4]);
        book.clear();
        assert_eq!((book.counts(), book.last()), ((0, 0), 4));
        book.add((4..=6).map(|n| line(n, Level::Info, "x")).collect());
        assert_eq!(numbers(&book), [5, 6]);
    }

    #[test]
    fn the_filter_holds_for_lines_here_and_to_come() {
        let mut book = LogBook::default();
        book.add(vec![
            line(1, Level::Debug, "Row one"),
            line(2, Level::Error, "no ROW"),
            line(3, Level::Warning, "Zeile"),
        ]);
        book.filter(Some(Level::Warning), "");
        assert_eq!(numbers(&book), [2, 3]);
        book.filter(None, " row ");
        assert_eq!(numbers(&book), [1, 2]);
        book.add(vec![
            line(4, Level::Info, "other"),
            line(5, Level::Info, "\u{1b}[31mro\u{1b}[0mw"),
        ]);
        assert_eq!(numbers(&book), [1, 2, 5]);
        assert_eq!(book.counts(), (5, 3));
        assert_eq!((book.position(2), book.position(3), book.position(9)), (1, 2, 3));
        book.filter(None, "ÄRGER");
        book.add(vec![line(6, Level::Info, "kein Ärger")]);
        assert_eq!(numbers(&book), [6]);
    }

    #[test]
    fn slices_outside_are_empty() {
        let mut book = LogBook::default();
        assert!(book.slice(5..9).is_empty());
        book.add(vec![line(1, Level::Info, "x")]);
        assert_eq!(book.slice(0..100).len(), 1);
        assert_eq!(book.line(1).map(|l| l.n), Some(1));
        assert!(book.line(2).is_none());
    }
}
