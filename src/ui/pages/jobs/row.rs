//! One row of the list.

use leptos::prelude::*;

use super::JobsBase;
use super::state::Row;
use crate::domain::job::{Job, short_id};
use crate::domain::kind;
use crate::domain::status::Status;
use crate::domain::time::Timestamp;
use crate::ui::components::badge::{percent_text, status_text};
use crate::ui::components::{ProgressBar, RelativeTime, StatusIcon};
use crate::ui::query::JobsUrl;

/// The element id of a row's link, to find it by.
pub fn row_id(id: &crate::domain::job::JobId) -> String {
    format!("job-{id}")
}

/// The moment that tells most about a job as it stands.
fn moment(job: &Job) -> Timestamp {
    match job.status {
        Status::Scheduled | Status::Retrying => job.run_at,
        Status::Running => job.started_at.unwrap_or(job.created_at),
        s if s.is_finished() => job.completed_at.unwrap_or(job.created_at),
        _ => job.created_at,
    }
}

/// A link to the job: what it is, how it fares, since when.
#[component]
pub fn JobRow(row: Row) -> impl IntoView {
    let url = JobsUrl::expect();
    let base = JobsBase::expect();
    let id = row.id;
    let job: RwSignal<Job> = row.job.into();
    let status = Memo::new(move |_| job.with(|j| j.status));
    let words = Memo::new(move |_| job.with(status_text));
    let message = Memo::new(move |_| job.with(|j| j.message.clone()));
    let at = Memo::new(move |_| job.with(|j| Some(moment(j))));
    let percent = Memo::new(move |_| job.with(|j| percent_text(j).and(j.progress)));
    let number = Memo::new(move |_| job.with(percent_text));
    let progress = move || {
        number.get().map(|number| {
            view! { <span class="row-percent">{number}</span> }
        })
    };
    let name = job.with_untracked(|j| kind::label(&j.kind));
    view! {
        <a
            class="row"
            id=row_id(&id)
            href=move || base.job_href(&id)
            aria-current=move || (url.selected() == Some(id)).then_some("true")
            data-status=move || status.get().as_str()
            data-noscroll=true
        >
            <StatusIcon status=status />
            <span class="row-what">
                <span class="row-type">{name}</span>
                <span class="row-id">{format!("#{}", short_id(&id))}</span>
            </span>
            <span class="row-when">
                <RelativeTime at=at />
            </span>
            <span class="row-how">
                <span class="row-status" data-status=move || status.get().as_str()>
                    {move || words.get()}
                </span>
                <span class="row-message" title=move || message.get()>
                    {move || message.get()}
                </span>
            </span>
            <span class="row-progress">
                <ProgressBar percent=percent status=status label="Progress" />
                {progress}
            </span>
        </a>
    }
}
