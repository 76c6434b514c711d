//! How a job's status looks.

use leptos::prelude::*;

use crate::domain::job::Job;
use crate::domain::status::Status;

/// The words for a job's status; a job that was asked to stop says so.
pub fn status_text(job: &Job) -> &'static str {
    if job.status == Status::Running && job.cancel_requested {
        "Cancelling…"
    } else if job.status == Status::Running && job.pause_requested {
        "Pausing…"
    } else {
        job.status.label()
    }
}

/// "67%", when the job runs and has said so.
pub fn percent_text(job: &Job) -> Option<String> {
    let percent = job.progress.filter(|p| job.status == Status::Running && *p > 0.0)?;
    Some(format!("{}%", percent.clamp(0.0, 100.0).floor()))
}

/// A job's status in words on its ground. Running pulses and shows how far it is.
#[component]
pub fn StatusBadge(#[prop(into)] job: Signal<Job>) -> impl IntoView {
    let status = Signal::derive(move || job.with(|j| j.status));
    let label = Memo::new(move |_| {
        job.with(|j| match percent_text(j) {
            Some(percent) => format!("{} ({percent})", status_text(j)),
            None => status_text(j).to_string(),
        })
    });
    view! {
        <span class="badge" data-status=move || status.get().as_str()>
            <StatusIcon status />
            <span class="badge-label">{move || label.get()}</span>
        </span>
    }
}

/// A status as a shape of its own, so that it can be told without its colour.
#[component]
pub fn StatusIcon(#[prop(into)] status: Signal<Status>) -> impl IntoView {
    view! {
        <svg
            class="status-icon"
            data-status=move || status.get().as_str()
            viewBox="0 0 16 16"
            width="16"
            height="16"
            fill="none"
            stroke="currentColor"
            stroke-width="1.6"
            stroke-linecap="round"
            stroke-linejoin="round"
            aria-hidden="true"
            focusable="false"
        >
            <path class="ground" d=move || ground(status.get()) />
            <path class="mark" d=move || mark(status.get()) />
        </svg>
    }
}

/// A full circle.
const CIRCLE: &str = "M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4z";
/// An octagon, for the end of the line.
const OCTAGON: &str = "M5.4 1.8h5.2l3.6 3.6v5.2l-3.6 3.6h-5.2l-3.6-3.6v-5.2z";
/// A triangle, for what needs a look.
const TRIANGLE: &str = "M8 2.2l6.2 11.2h-12.4z";

fn ground(status: Status) -> &'static str {
    match status {
        Status::Dead => OCTAGON,
        Status::Retrying => TRIANGLE,
        Status::Blocked => "",
        _ => CIRCLE,
    }
}

fn mark(status: Status) -> &'static str {
    match status {
        // A clock's hands.
        Status::Scheduled => "M8 4.6v3.6l2.4 1.5",
        // Two links of a chain.
        Status::Blocked => {
            "M6.8 9.2a2.8 2.8 0 0 0 4 0l2-2a2.8 2.8 0 0 0-4-4l-.9.9M9.2 6.8a2.8 2.8 0 0 0-4 0l-2 2a2.8 2.8 0 0 0 4 4l.9-.9"
        }
        Status::Pending => "",
        Status::Running => "M8 6.2a1.8 1.8 0 1 1 0 3.6a1.8 1.8 0 1 1 0-3.6z",
        Status::Retrying => "M8 6.2v3.2M8 11.4v.1",
        Status::Paused => "M6.3 5.6v4.8M9.7 5.6v4.8",
        Status::Completed => "M5.2 8.3l2 2l3.7-4.2",
        Status::Failed => "M5.9 5.9l4.2 4.2M10.1 5.9l-4.2 4.2",
        Status::Dead => "M5.9 5.9l4.2 4.2M10.1 5.9l-4.2 4.2",
        Status::Cancelled => "M5.2 8h5.6",
    }
}
