//! The two kinds of errors that people meet: why a job's attempt failed ([`JobError`]) and why a call was refused
//! ([`Problem`]). Their codes are part of the API and never change meaning.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Why an attempt failed, in a word that programs can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// A connection could not be made or broke.
    NetworkError,
    /// The attempt, or something that it waited for, took longer than allowed.
    Timeout,
    /// Somebody asked us to slow down.
    RateLimit,
    /// Credentials were refused.
    AuthError,
    /// The args do not describe work that this kind can do.
    InvalidArgs,
    /// Something that the args name does not exist.
    NotFound,
    /// The input was read and is not acceptable.
    Validation,
    /// A file or a disk could not be read or written.
    IoError,
    /// The database answered with an error.
    DatabaseError,
    /// The kind's code panicked.
    Panic,
    /// The worker died, or lost its lease, in the middle of the attempt.
    WorkerLost,
    /// No worker here knows this kind.
    UnknownKind,
    /// A secret in the args can't be decrypted: its key is not here, or it was changed.
    SecretUnreadable,
    /// Anything else.
    Internal,
}

impl ErrorCode {
    /// Whether another try may help. Invalid args, failed authentication, missing resources and failed validation
    /// will fail again and go straight to `failed`.
    pub fn retryable(self) -> bool {
        !matches!(
            self,
            Self::AuthError
                | Self::InvalidArgs
                | Self::NotFound
                | Self::Validation
                | Self::UnknownKind
                | Self::SecretUnreadable
        )
    }

    /// The code as it is written on the wire, `NETWORK_ERROR`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkError => "NETWORK_ERROR",
            Self::Timeout => "TIMEOUT",
            Self::RateLimit => "RATE_LIMIT",
            Self::AuthError => "AUTH_ERROR",
            Self::InvalidArgs => "INVALID_ARGS",
            Self::NotFound => "NOT_FOUND",
            Self::Validation => "VALIDATION",
            Self::IoError => "IO_ERROR",
            Self::DatabaseError => "DATABASE_ERROR",
            Self::Panic => "PANIC",
            Self::WorkerLost => "WORKER_LOST",
            Self::UnknownKind => "UNKNOWN_KIND",
            Self::SecretUnreadable => "SECRET_UNREADABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of one attempt. Written by the executor when the attempt ends; never changed afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[error("{code}: {message}")]
pub struct JobError {
    pub code: ErrorCode,
    /// One or a few sentences, at most [`JobError::MESSAGE_MAX`] bytes.
    pub message: String,
    /// The chain of causes or the panic's backtrace, at most [`JobError::STACK_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Whether the engine may try again. Follows the code unless the kind says otherwise.
    pub retryable: bool,
}

impl JobError {
    /// Bytes of a message that are kept.
    pub const MESSAGE_MAX: usize = 2_000;
    /// Bytes of a stack that are kept.
    pub const STACK_MAX: usize = 16_000;

    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        truncate(&mut message, Self::MESSAGE_MAX);
        Self {
            code,
            message,
            stack: None,
            retryable: code.retryable(),
        }
    }

    /// The same with the chain of an error's sources as its stack.
    pub fn caused(code: ErrorCode, message: impl Into<String>, cause: &dyn std::error::Error) -> Self {
        let mut stack = format!("0: {cause}");
        let mut source = cause.source();
        let mut depth = 1;
        while let Some(s) = source {
            stack.push_str(&format!("\n{depth}: {s}"));
            source = s.source();
            depth += 1;
        }
        Self::new(code, message).with_stack(stack)
    }

    pub fn with_stack(mut self, mut stack: String) -> Self {
        truncate(&mut stack, Self::STACK_MAX);
        self.stack = Some(stack);
        self
    }

    /// Another try would not help, whatever the code says.
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }
}

/// Errors that count as the same problem: one of `GET /api/errors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct ErrorGroup {
    /// What they have in common; `GET /api/jobs?error=` takes it.
    pub fingerprint: String,
    pub code: ErrorCode,
    /// The last one's.
    pub message: String,
    /// Kinds whose attempts ended so, the last seen first.
    pub kinds: Vec<String>,
    /// Attempts that ended so.
    pub count: u64,
    /// Jobs that stand with this error now; counting stops at 10,000.
    pub jobs: u64,
    pub first_seen: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
}

/// Whether this is what a fingerprint looks like: 16 hexadecimal digits in lower case.
pub fn is_fingerprint(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl JobError {
    /// What a message has in common with those of the same problem: whatever names one case (numbers, ids, what stands in
    /// quotes) is left out.
    pub fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.message.len());
        let mut rest = self.message.as_str();
        while let Some(c) = rest.chars().next() {
            let quoted = matches!(c, '"' | '`')
                .then(|| rest[1..].find(c).map(|end| end + 2))
                .flatten();
            let word = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
                .unwrap_or(rest.len());
            let (part, length) = match quoted {
                Some(length) => ("\"…\"", length),
                None if word == 0 => (&rest[..c.len_utf8()], c.len_utf8()),
                None if rest[..word].contains(|c: char| c.is_ascii_digit()) => ("#", word),
                None => (&rest[..word], word),
            };
            shape.push_str(part);
            rest = &rest[length..];
        }
        shape
    }
}

/// Cuts `text` to at most `max` bytes on a character's border and marks the cut with "…".
pub fn truncate(text: &mut String, max: usize) {
    if text.len() <= max {
        return;
    }
    let mark = "…";
    let mut end = max.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(mark);
}

/// Why a call was refused, in a word that programs can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// A field is missing, malformed or out of its range.
    InvalidInput,
    /// No such thing, or none that this caller may know of.
    NotFound,
    /// Nobody is signed in, or who claims to be is not known.
    Unauthorized,
    /// This caller may not do this.
    Forbidden,
    /// The request came from another site.
    CrossSite,
    /// The job's status does not allow the change.
    WrongStatus,
    /// Other jobs match than those that the caller saw.
    CountChanged,
    /// The worker does not hold the job's lease, or no longer.
    LeaseLost,
    /// The body or a field is larger than its limit.
    TooLarge,
    /// The method is not one of this address's.
    MethodNotAllowed,
    /// The requested part of a file does not exist.
    RangeNotSatisfiable,
    /// The request's body came too slowly.
    TooSlow,
    /// There is no room for another file.
    StorageFull,
    /// The queue is full; try again later.
    QueueFull,
    /// Too many requests, or sign-ins that failed; try again later.
    RateLimited,
    /// The database or another part is away; try again later.
    Unavailable,
    /// The answer never came: the browser could not reach the server.
    Network,
    /// A defect of the server.
    Internal,
}

impl ProblemCode {
    /// The HTTP status of an answer with this code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidInput => 400,
            Self::NotFound => 404,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::CrossSite => 403,
            Self::WrongStatus | Self::CountChanged | Self::LeaseLost => 409,
            Self::TooLarge => 413,
            Self::MethodNotAllowed => 405,
            Self::RangeNotSatisfiable => 416,
            Self::TooSlow => 408,
            Self::StorageFull => 507,
            Self::QueueFull | Self::RateLimited => 429,
            Self::Unavailable | Self::Network => 503,
            Self::Internal => 500,
        }
    }

    /// The problem's title: the same words for every occurrence (RFC 9457 §3.1.3).
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidInput => "Invalid input",
            Self::NotFound => "Not found",
            Self::Unauthorized => "Sign in first",
            Self::Forbidden => "Not allowed",
            Self::CrossSite => "Request from another site",
            Self::WrongStatus => "Not possible in this status",
            Self::CountChanged => "The list has changed",
            Self::LeaseLost => "The lease is lost",
            Self::TooLarge => "Too large",
            Self::MethodNotAllowed => "Method not allowed",
            Self::RangeNotSatisfiable => "Range not satisfiable",
            Self::TooSlow => "Too slow",
            Self::StorageFull => "No room left",
            Self::QueueFull => "Queue full",
            Self::RateLimited => "Too many requests",
            Self::Unavailable => "Temporarily unavailable",
            Self::Network => "Server not reached",
            Self::Internal => "Internal error",
        }
    }
}

/// A refused call as RFC 9457 `application/problem+json` has it. REST, server functions and the command line all
/// answer with this one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[error("{title}: {detail}")]
pub struct Problem {
    /// `about:blank`: the code below says what a type would.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    pub code: ProblemCode,
    /// What is wrong with this very call, with the value and what is allowed.
    pub detail: String,
    /// The field that is at fault, as the caller names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which another try is worth it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: code.title().into(),
            status: code.http_status(),
            code,
            detail: detail.into(),
            field: None,
            retry_after: None,
        }
    }

    /// With the seconds after which another try is worth it.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// A field's value that can't be taken: `detail` says why and what is allowed.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(ProblemCode::InvalidInput, detail)
        }
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(ProblemCode::NotFound, format!("{what} does not exist"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_keeps_characters_whole_and_marks_the_cut() {
        let mut s = "ääää".to_string();
        truncate(&mut s, 8);
        assert_eq!(s, "ääää");
        truncate(&mut s, 7);
        assert_eq!(s, "ää…");
    }

    #[test]
    fn what_names_one_case_is_not_part_of_a_shape() {
        let shape = |text: &str| JobError::new(ErrorCode::Internal, text).shape();
        assert_eq!(
            shape("row 17 of \"a.csv\": 3.5 is not a level"),
            shape("row 9 of \"b.csv\": 12.25 is not a level")
        );
        assert_eq!(
            shape("job 01a20dde-4c91-77be-acea-212e5f12430a is gone"),
            "job # is gone"
        );
        assert_ne!(shape("no such table"), shape("no such column"));
        assert_eq!(shape("an \" alone, ünd ä"), "an \" alone, ünd ä");
        assert_eq!(shape(""), "");
    }

    #[test]
    fn codes_are_written_as_they_are_serialised() {
        for code in [
            ErrorCode::NetworkError,
            ErrorCode::SecretUnreadable,
            ErrorCode::WorkerLost,
        ] {
            assert_eq!(serde_json::to_value(code).expect("json"), code.as_str());
        }
    }
}
