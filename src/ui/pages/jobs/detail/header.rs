//! The top of the panel: which job, how it fares, and what can be done with it.

use leptos::prelude::*;

use super::actions::Actions;
use super::selected::Selected;
use crate::domain::job::Job;
use crate::domain::status::Status;
use crate::ui::components::{ProgressBar, StatusBadge};

/// How far the bar reaches; absent where none is drawn: before the first attempt, and where nothing is known.
fn bar(job: &Job) -> Option<f64> {
    match job.status {
        Status::Scheduled | Status::Blocked | Status::Pending => None,
        Status::Completed => Some(100.0),
        Status::Running => Some(job.progress.unwrap_or(0.0)),
        _ => job.progress,
    }
}

/// The job's message; none where it repeats the error, which has a place of its own.
fn message(job: &Job) -> Option<String> {
    let repeats = !job.message.is_empty()
        && job
            .error
            .as_deref()
            .is_some_and(|e| e.starts_with(job.message.trim_end_matches('…')));
    let failed = matches!(job.status, Status::Failed | Status::Dead | Status::Retrying);
    (!(failed && repeats)).then(|| job.message.clone())
}

#[component]
pub fn Header(selected: Selected, title: String) -> impl IntoView {
    let job = selected.job;
    let message = Memo::new(move |_| job.with(message));
    let percent = Memo::new(move |_| job.with(bar));
    let status = Memo::new(move |_| job.with(|j| j.status));
    view! {
        <header class="detail-head">
            <div class="detail-title">
                <h2 id="job-title" tabindex="-1">
                    {title}
                </h2>
                <StatusBadge job=job />
            </div>
            {move || message.get().map(|text| view! { <p class="detail-message">{text}</p> })}
            <ProgressBar percent=percent status=status label="Progress" />
            <Actions selected=selected />
        </header>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{JobId, Lane};
    use crate::domain::time::from_millis;

    #[test]
    fn no_bar_while_pending_and_nothing_said_twice() {
        let mut job = Job {
            id: JobId::nil(),
            kind: "export".into(),
            queue: "default".into(),
            priority: Lane::Normal,
            status: Status::Pending,
            owner: "ada".into(),
            message: String::new(),
            progress: Some(40.0),
            done: None,
            total: None,
            attempt: 1,
            max_attempts: 5,
            crashes: 0,
            created_at: from_millis(0),
            run_at: from_millis(0),
            started_at: None,
            completed_at: None,
            worker: None,
            concurrency_key: None,
            fingerprint: None,
            batch: None,
            front: false,
            cancel_requested: false,
            pause_requested: false,
            error_code: None,
            error: None,
            rev: 1,
        };
        assert_eq!(bar(&job), None);
        job.status = Status::Failed;
        assert_eq!(bar(&job), Some(40.0));
        job.message = "The file is empty.".into();
        assert_eq!(message(&job).as_deref(), Some("The file is empty."));
        job.error = Some(job.message.clone());
        assert_eq!(message(&job), None);
        job.status = Status::Completed;
        assert_eq!(bar(&job), Some(100.0));
    }
}
