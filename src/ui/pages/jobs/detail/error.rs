//! Why the job failed.

use leptos::prelude::*;

use super::selected::Selected;
use crate::domain::error::{ErrorCode, JobError};
use crate::domain::filter::JobFilter;
use crate::domain::status::Status;
use crate::ui::components::{CopyButton, Icon};
use crate::ui::pages::jobs::JobsBase;

/// The last attempt's error, while the job's status is due to it.
#[component]
pub fn ErrorBox(selected: Selected) -> impl IntoView {
    let base = JobsBase::expect();
    let shown = Memo::new(move |_| {
        let job = selected.job.get();
        if !matches!(job.status, Status::Failed | Status::Dead | Status::Retrying) {
            return None;
        }
        // The fetched error has the stack; until it is here, the job's own record has to do.
        let code = job.error_code?;
        let message = job.error.unwrap_or_default();
        let full = selected
            .detail
            .with(|d| d.error.clone())
            .filter(|e| e.code == code && same(&e.message, &message));
        Some(full.unwrap_or_else(|| JobError::new(code, message)))
    });
    move || {
        shown.get().map(|error| {
            let all = match &error.stack {
                Some(stack) => format!("{error}\n{stack}"),
                None => error.to_string(),
            };
            view! {
                <div class="error-box" role="alert">
                    <Icon icon=icondata_lu::LuCircleAlert />
                    <div class="error-text">
                        <p>
                            <strong class="error-code">{error.code.as_str()}</strong>
                            <span class="error-hint">{hint(error.code)}</span>
                        </p>
                        <p class="error-message">{error.message.clone()}</p>
                        {selected
                            .job
                            .with_untracked(|j| j.fingerprint.clone())
                            .map(|print| {
                                let filter = JobFilter {
                                    error: Some(print),
                                    ..JobFilter::default()
                                };
                                view! {
                                    <p class="error-same">
                                        <a href=base.filtered_href(&filter)>"All jobs with this error"</a>
                                    </p>
                                }
                            })}
                        {error
                            .stack
                            .clone()
                            .map(|stack| {
                                view! {
                                    <details class="error-stack">
                                        <summary>"Stack"</summary>
                                        <pre tabindex="0" aria-label="Stack" role="group">
                                            {stack}
                                        </pre>
                                    </details>
                                }
                            })}
                    </div>
                    <CopyButton text=all label="Copy error" />
                </div>
            }
        })
    }
}

/// The job's record may hold a shortened message.
fn same(full: &str, short: &str) -> bool {
    full == short || full.starts_with(short.trim_end_matches('…'))
}

/// The code in words.
fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NetworkError => "a connection failed",
        ErrorCode::Timeout => "it took too long",
        ErrorCode::RateLimit => "asked to slow down",
        ErrorCode::AuthError => "credentials were refused",
        ErrorCode::InvalidArgs => "the args can't be used",
        ErrorCode::NotFound => "something it needs does not exist",
        ErrorCode::Validation => "the input is not acceptable",
        ErrorCode::IoError => "a file could not be read or written",
        ErrorCode::DatabaseError => "the database answered with an error",
        ErrorCode::Panic => "the job's code crashed",
        ErrorCode::WorkerLost => "its worker died or lost it",
        ErrorCode::UnknownKind => "no worker knows this type",
        ErrorCode::SecretUnreadable => "a secret in the args can't be read",
        ErrorCode::Internal => "an unexpected error",
    }
}
