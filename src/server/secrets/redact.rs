//! What is left out of logs, messages and errors: whatever looks like a secret, and the very values that an attempt was given
//! as secrets.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde_json::Value;

use crate::domain::error::{JobError, truncate};
use crate::domain::secret::MASK;

/// Patterns that LOG_REDACT may add, the bytes of each, and of what it is compiled to.
const EXTRA_MAX: usize = 50;
const EXTRA_BYTES_MAX: usize = 1_000;
const EXTRA_COMPILED_MAX: usize = 1 << 20;
/// Characters of the shortest value that is looked for: shorter ones stand in many words.
const EXACT_MIN: usize = 4;
/// The same for a line of a value that has several.
const LINE_MIN: usize = 8;

/// What is left out anyway; what stands in the first group stays. Rather a word too many than a password.
const BUILT_IN: &[&str] = &[
    // Private keys, with their end or up to where the text was cut.
    r"(?s)()-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\z)",
    // The header, up to the end of its line or text.
    r#"(?i)\b((?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?)[^\r\n"'\\]+"#,
    // A word of letters alone is one only when it is long.
    r"(?i)\b(bearer\s+)(?:[a-z._~+/-]*[0-9][\w.~+/-]{3,}|[\w.~+/-]{16,})=*",
    // NAME=VALUE, NAME: VALUE and the same in JSON, also within a text of JSON. What was left out before stays as it is.
    concat!(
        r#"(?is)((?:password|passwd|passphrase|pwd|secret|(?:api|access|private|secret|signing|encryption)[-_]?key"#,
        r#"|(?:access|refresh|auth|api|id|session|csrf|bearer)[-_]?token)\\?["']?\s*(?:=>|[:=])\s*(?:Some\()?)"#,
        r#"(?:"(?:[^"\\]|\\.)*(?:"|\z)|\\"(?:[^"\\]|\\[^"])*(?:\\"|\z)|'[^']*(?:'|\z)|•{6}|[^\s"'&]+)"#,
    ),
    // --password VALUE
    r#"(?is)(--[a-z0-9-]*(?:password|passwd|passphrase|secret|token|api-key)\s+)(?:"[^"]*(?:"|\z)|'[^']*(?:'|\z)|[^\s"']+)"#,
    // The tokens of this very API.
    r"()\bwindlass_[0-9a-f]{16,}",
    // ://USER:PASSWORD@
    r#"(?i)([a-z][a-z0-9+.-]*://[^\s/:@"'<>]*:)[^\s/"'<>]+@"#,
];
/// The place of the last one, whose match ends with what stays.
const USERINFO: usize = BUILT_IN.len() - 1;

static DEFAULT: LazyLock<Redactor> = LazyLock::new(|| {
    Redactor::new("").unwrap_or_else(|why| {
        tracing::error!(
            why,
            "the patterns of secrets can't be used: logs are left out as a whole"
        );
        Redactor(None)
    })
});

/// The patterns of secrets. Cheap to clone.
#[derive(Clone)]
pub struct Redactor(Option<Arc<Patterns>>);

struct Patterns {
    /// All of them at once: most texts have nothing to leave out.
    any: RegexSet,
    each: Vec<Regex>,
}

impl Default for Redactor {
    /// The built-in patterns alone.
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let extra = self
            .0
            .iter()
            .map(|p| p.each.len().saturating_sub(BUILT_IN.len()))
            .sum::<usize>();
        write!(f, "{extra} patterns of its own")
    }
}

impl Redactor {
    /// The built-in patterns and those of LOG_REDACT: regular expressions with white space between them. Of one with a group,
    /// the first group is left out, else all that it matches. The error says which one can't be taken, and what is allowed.
    pub fn new(extra: &str) -> Result<Self, String> {
        let extra: Vec<&str> = extra.split_whitespace().collect();
        if extra.len() > EXTRA_MAX {
            return Err(format!(
                "{} patterns were given; at most {EXTRA_MAX} are allowed",
                extra.len()
            ));
        }
        let mut each = Vec::new();
        for pattern in BUILT_IN {
            each.push(Regex::new(pattern).map_err(|e| e.to_string())?);
        }
        for pattern in &extra {
            each.push(checked(pattern)?);
        }
        let all = BUILT_IN.iter().chain(&extra);
        let any = RegexSetBuilder::new(all)
            .size_limit(64 << 20)
            .build()
            .map_err(|e| format!("together the patterns are too large: {e}"))?;
        Ok(Self(Some(Arc::new(Patterns { any, each }))))
    }

    /// The text without what the patterns match.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(patterns) = &self.0 else {
            return MASK.into();
        };
        let matched = patterns.any.matches(text);
        if !matched.matched_any() {
            return text.into();
        }
        let mut text = text.to_string();
        for i in matched.iter() {
            let Some(pattern) = patterns.each.get(i) else { continue };
            if let Cow::Owned(shorter) = pattern.replace_all(&text, |found: &regex::Captures<'_>| replaced(i, found)) {
                text = shorter;
            }
        }
        text.into()
    }
}

/// What stands in place of a match of pattern number `i`.
fn replaced(i: usize, found: &regex::Captures<'_>) -> String {
    let group = found.get(1);
    if i < BUILT_IN.len() {
        let (before, after) = (group.map_or("", |g| g.as_str()), if i == USERINFO { "@" } else { "" });
        return format!("{before}{MASK}{after}");
    }
    let (Some(all), Some(group)) = (found.get(0), group) else {
        return MASK.into();
    };
    let whole = all.as_str();
    let (from, to) = (group.start() - all.start(), group.end() - all.start());
    format!("{}{MASK}{}", &whole[..from], &whole[to..])
}

/// One pattern of LOG_REDACT.
fn checked(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > EXTRA_BYTES_MAX {
        return Err(format!(
            "a pattern has {} bytes; at most {EXTRA_BYTES_MAX} are allowed",
            pattern.len()
        ));
    }
    let regex = RegexBuilder::new(pattern)
        .size_limit(EXTRA_COMPILED_MAX)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => {
                format!("the pattern {pattern} is too large; its repetitions have to be smaller")
            }
            e => format!("the pattern {pattern} can't be read: {e}"),
        })?;
    if regex.is_match("") {
        return Err(format!(
            "the pattern {pattern} fits the empty text, and with it everything"
        ));
    }
    Ok(regex)
}

/// What one attempt may not say: the patterns, and the values of its secrets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Veil {
    redactor: Redactor,
    /// The longest first: one may be part of another.
    exact: Arc<[String]>,
}

impl Veil {
    /// `secrets`: the values that nobody may see, of any shape.
    pub fn new<'v>(redactor: &Redactor, secrets: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut exact = Vec::new();
        for value in secrets {
            forms(value, &mut exact);
        }
        exact.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        exact.dedup();
        Self {
            redactor: redactor.clone(),
            exact: exact.into(),
        }
    }

    /// The text without the values and without what the patterns match.
    pub fn text(&self, text: String) -> String {
        let text = self.values(text);
        match self.redactor.text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(shorter) => shorter,
        }
    }

    /// The text without the values, whatever else it holds.
    pub fn values(&self, mut text: String) -> String {
        for secret in self.exact.iter() {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        // Where a text was cut, the beginning of a secret may be left.
        if let Some(stem) = text.strip_suffix('…') {
            let left = self.exact.iter().filter_map(|secret| beginning(stem, secret)).max();
            if let Some(left) = left {
                text = format!("{}{MASK}…", &stem[..stem.len() - left]);
            }
        }
        text
    }

    /// The error without them.
    pub fn error(&self, error: JobError) -> JobError {
        let part = |text: String, max: usize| {
            let mut text = self.text(text);
            truncate(&mut text, max);
            text
        };
        JobError {
            message: part(error.message, JobError::MESSAGE_MAX),
            stack: error.stack.map(|stack| part(stack, JobError::STACK_MAX)),
            ..error
        }
    }

    /// A result without the values, in keys as well. Patterns are not for results: these are read by programs, and to change
    /// what only looks like a secret would spoil them.
    pub fn result(&self, result: Value) -> Value {
        if self.exact.is_empty() {
            return result;
        }
        match result {
            Value::String(text) => self.values(text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.result(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| (self.values(name), self.result(value)))
                .collect(),
            Value::Number(n) if self.exact.contains(&n.to_string()) => MASK.into(),
            other => other,
        }
    }
}

/// How many bytes of the end of `text` are the beginning of `secret`, when these are enough to matter.
fn beginning(text: &str, secret: &str) -> Option<usize> {
    let ends = secret.char_indices().map(|(at, _)| at).skip(EXACT_MIN);
    ends.filter(|end| text.ends_with(&secret[..*end])).last()
}

/// The texts in which a secret may turn up.
fn forms(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            add(text.clone(), found);
            // As JSON and Rust show it, and as a URL holds it.
            let quoted = Value::from(text.as_str()).to_string();
            add(quoted[1..quoted.len() - 1].to_string(), found);
            add(encoded(text), found);
            let lines = text.lines().map(str::trim);
            if text.contains('\n') {
                lines
                    .filter(|line| line.len() >= LINE_MIN)
                    .for_each(|line| add(line.into(), found));
            }
        }
        Value::Number(n) => add(n.to_string(), found),
        Value::Array(items) => items.iter().for_each(|item| forms(item, found)),
        Value::Object(fields) => fields.values().for_each(|part| forms(part, found)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn add(text: String, found: &mut Vec<String>) {
    if text.chars().nth(EXACT_MIN - 1).is_some() && text != MASK {
        found.push(text);
    }
}

/// The text as a part of a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
