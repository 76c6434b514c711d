//! Terminal colours in log lines: the sixteen basic ones and bold become classes, everything else that a terminal
//! would obey is dropped. The text itself is only ever text.

use std::borrow::Cow;

const ESC: char = '\u{1b}';
const COLOURS: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/// A run of text in one style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Class names, empty for plain text.
    pub class: String,
    pub text: String,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Style {
    colour: Option<&'static str>,
    bold: bool,
    dim: bool,
}

impl Style {
    fn class(self) -> String {
        let mut class = String::new();
        if let Some(colour) = self.colour {
            class.push_str("ansi-");
            class.push_str(colour);
        }
        for (on, name) in [(self.bold, "ansi-bold"), (self.dim, "ansi-dim")] {
            if on {
                if !class.is_empty() {
                    class.push(' ');
                }
                class.push_str(name);
            }
        }
        class
    }

    fn apply(&mut self, codes: &str) {
        let mut codes = codes.split(';').map(|c| c.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                22 => (self.bold, self.dim) = (false, false),
                30..=37 => self.colour = Some(COLOURS[usize::from(code - 30)]),
                90..=97 => self.colour = Some(COLOURS[usize::from(code - 90)]),
                39 => self.colour = None,
                // 256 and true colours bring parameters of their own, which mean nothing by themselves.
                38 | 48 => {
                    let skip = match codes.next() {
                        Some(5) => 1,
                        Some(2) => 3,
                        _ => 0,
                    };
                    for _ in 0..skip {
                        codes.next();
                    }
                }
                _ => {}
            }
        }
    }
}

/// The runs of `text`. Line breaks and tabs stay; other control characters and escape sequences go.
pub fn spans(text: &str) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    let mut style = Style::default();
    let mut run = String::new();
    let mut chars = text.chars().peekable();
    let mut flush = |run: &mut String, style: Style| {
        if !run.is_empty() {
            out.push(Span {
                class: style.class(),
                text: std::mem::take(run),
            });
        }
    };
    while let Some(c) = chars.next() {
        if c != ESC {
            if !c.is_control() || c == '\n' || c == '\t' {
                run.push(c);
            }
            continue;
        }
        match chars.next() {
            Some('[') => {
                let mut codes = String::new();
                // A control sequence ends with a byte from @ to ~.
                let end = loop {
                    match chars.next() {
                        Some(c @ '@'..='~') => break Some(c),
                        Some(c) => codes.push(c),
                        None => break None,
                    }
                };
                if end == Some('m') {
                    let mut next = style;
                    next.apply(&codes);
                    if next != style {
                        flush(&mut run, style);
                        style = next;
                    }
                }
            }
            // An operating system command ends with BEL or ESC \.
            Some(']') => {
                while let Some(c) = chars.next() {
                    if c == '\u{7}' {
                        break;
                    }
                    if c == ESC {
                        chars.next_if_eq(&'\\');
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    flush(&mut run, style);
    out
}

/// The text without colours and control characters.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(ESC) {
        Cow::Owned(spans(text).into_iter().map(|s| s.text).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(String, String)> {
        spans(text).into_iter().map(|s| (s.class, s.text)).collect()
    }

    fn part(class: &str, text: &str) -> (String, String) {
        (class.into(), text.into())
    }

    #[test]
    fn colours_become_classes() {
        assert_eq!(parts("plain"), [part("", "plain")]);
        assert_eq!(
            parts("a\u{1b}[1;31mb\u{1b}[0mc\u{1b}[92md"),
            [
                part("", "a"),
                part("ansi-red ansi-bold", "b"),
                part("", "c"),
                part("ansi-green", "d")
            ]
        );
        assert_eq!(parts("\u{1b}[38;5;31mx\u{1b}[48;2;1;2;31my"), [part("", "xy")]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_dropped() {
        assert_eq!(parts("a\u{1b}[2Jb\u{1b}]0;title\u{7}c\u{8}\u{0}d"), [part("", "abcd")]);
        assert_eq!(parts("a\u{1b}]8;;http://x\u{1b}\\link"), [part("", "alink")]);
        for cut in ["\u{1b}", "\u{1b}[", "\u{1b}[31", "\u{1b}]x", "\u{1b}[99999999m"] {
            assert_eq!(parts(cut), [], "{cut:?}");
        }
        assert_eq!(plain("\u{1b}[31m<b>\u{1b}[0m&"), "<b>&");
    }
}
