//! How far a bulk action is that a batch of jobs does.

use leptos::prelude::*;
use leptos::task::spawn_local;
use uuid::Uuid;

use crate::domain::filter::{JobFilter, Order};
use crate::domain::job::Job;
use crate::domain::page::{count_label, grouped};
use crate::domain::status::Status;
use crate::domain::time::{Timestamp, duration};
use crate::rpc;
use crate::ui::components::badge::status_text;
use crate::ui::components::dialog::Dialog;
use crate::ui::components::progress::Bar;
use crate::ui::components::toast::Toaster;
use crate::ui::components::{Icon, StatusIcon};
use crate::ui::live::Live;
use crate::ui::pages::jobs::JobsBase;
use crate::ui::pages::jobs::state::{ListState, Row};
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;

/// Shows the batch while there is one in `batch`. Closing it stops nothing.
#[component]
pub fn BatchDialog(batch: RwSignal<Option<Uuid>>) -> impl IntoView {
    let open = RwSignal::new(false);
    Effect::new(move |_| open.set(batch.with(Option::is_some)));
    Effect::new(move |was: Option<bool>| {
        let is = open.get();
        if was == Some(true) && !is {
            batch.set(None);
        }
        is
    });
    view! {
        <Dialog id="batch-progress" title="Bulk action" open class="batch-dialog">
            {move || batch.get().map(|id| view! { <Progress id open /> })}
        </Dialog>
    }
}

/// How far all parts are together, 0 to 100.
fn overall(parts: &[Job]) -> f64 {
    let share = |job: &Job| match job.status.is_finished() {
        true => 100.0,
        false => job.progress.unwrap_or(0.0).clamp(0.0, 100.0),
    };
    match parts.len() {
        0 => 0.0,
        n => parts.iter().map(share).sum::<f64>() / n as f64,
    }
}

/// Milliseconds that the rest takes if it goes on as it went so far; none before anything can be said.
fn left_ms(percent: f64, began: Timestamp, now: Timestamp) -> Option<i64> {
    let took = (now - began).num_milliseconds();
    ((1.0..100.0).contains(&percent) && took >= 1_000).then(|| (took as f64 * (100.0 - percent) / percent) as i64)
}

/// "2 of 3 parts ended, 1 of them failed".
fn how_far(parts: &[Job]) -> String {
    let many = |fits: fn(Status) -> bool| parts.iter().filter(|part| fits(part.status)).count();
    let of = count_label(parts.len() as u64, false, "part", "parts");
    let mut words = format!("{} of {of} ended", many(Status::is_finished));
    for (n, what) in [
        (many(|s| matches!(s, Status::Failed | Status::Dead)), "failed"),
        (many(|s| s == Status::Cancelled), "cancelled"),
    ] {
        if n > 0 {
            words.push_str(&format!(", {n} {what}"));
        }
    }
    words
}

/// How the parts that did not do all that they were to ended; none while there is none.
fn worst(parts: &[Job]) -> Option<Status> {
    let ended_so = |wanted: Status| parts.iter().any(|part| part.status == wanted);
    [Status::Dead, Status::Failed, Status::Cancelled]
        .into_iter()
        .find(|status| ended_so(*status))
}

#[component]
fn Progress(id: Uuid, open: RwSignal<bool>) -> impl IntoView {
    let live = Live::expect();
    let toaster = Toaster::expect();
    let list = ListState::new(JobFilter {
        batch: Some(id),
        order: Order::Asc,
        ..JobFilter::default()
    });
    live.subscribe(move |event| list.hear(event));
    list.refresh();
    Effect::new(move |_| {
        if list.has_more() && !list.loading.get() {
            list.more();
        }
    });
    let name = RwSignal::new(String::new());
    spawn_local(async move {
        if let Ok(batch) = rpc::batch(id).await.inspect_err(lead_to_sign_in) {
            name.try_set(batch.name);
        }
    });
    let parts = Memo::new(move |_| {
        list.rows
            .with(|rows| rows.iter().map(|row| row.job.get()).collect::<Vec<_>>())
    });
    let percent = Memo::new(move |_| parts.with(|parts| overall(parts)));
    let ended =
        Memo::new(move |_| parts.with(|parts| !parts.is_empty() && parts.iter().all(|p| p.status.is_finished())));
    let words = Memo::new(move |_| parts.with(|parts| how_far(parts)));
    // Apart from the words, which are read out when they change: this does each second.
    let left = move || {
        let began = parts.with(|parts| parts.iter().map(|part| part.created_at).min());
        let left = began.and_then(|began| left_ms(percent.get(), began, live.now.get()));
        left.map(|left| format!("about {} left", duration(left)))
    };
    let looks = move || match parts.with(|parts| worst(parts)) {
        Some(status) => status.as_str(),
        None if ended.get() => "completed",
        None => "running",
    };
    let cancelling = RwSignal::new(false);
    let cancel = move |_| {
        cancelling.set(true);
        spawn_local(async move {
            let answer = rpc::cancel_batch(id, None).await.inspect_err(lead_to_sign_in);
            cancelling.try_set(false);
            match answer {
                Ok(done) => {
                    let parts = count_label(done.cancelled + done.asked, false, "part", "parts");
                    toaster.ok(format!("{parts} asked to stop; what is done stays done"));
                }
                Err(problem) => toaster.error(&problem),
            }
        });
    };
    view! {
        <p class="batch-name">{name}</p>
        <div
            class="progress"
            role="progressbar"
            aria-label="All parts"
            aria-valuemin="0"
            aria-valuemax="100"
            aria-valuenow=move || format!("{:.0}", percent.get().floor())
            data-status=looks
        >
            <Bar share=percent.into() />
        </div>
        <p class="batch-words">
            <span role="status">{words}</span>
            <span>{left}</span>
        </p>
        {move || list.problem.get().map(|problem| view! { <p class="field-error" role="alert">{problem.detail}</p> })}
        <ul role="list" aria-label="Parts" class="batch-parts">
            <ForEnumerate
                each=move || list.rows.get()
                key=|row| row.id
                children=move |index, row| view! { <Part index row open /> }
            />
        </ul>
        <p class="hint">
            {format!(
                "It goes on when this is closed. Each part is a {} of its own, whose result says what was left as it is.",
                text::JOB.0,
            )}
        </p>
        <div class="batch-buttons">
            <button
                type="button"
                class="btn amber"
                disabled=move || ended.get() || cancelling.get()
                aria-busy=move || cancelling.get().then_some("true")
                on:click=cancel
            >
                <Icon icon=icondata_lu::LuBan />
                "Cancel"
            </button>
            <button type="button" class="btn" data-focus="" on:click=move |_| open.set(false)>
                "Close"
            </button>
        </div>
    }
}

#[component]
fn Part(index: ReadSignal<usize>, row: Row, open: RwSignal<bool>) -> impl IntoView {
    let base = JobsBase::expect();
    let job: RwSignal<Job> = row.job.into();
    let status = Memo::new(move |_| job.with(|j| j.status));
    let how_far = move || {
        job.with(|j| match (j.done, j.total) {
            (Some(done), Some(total)) => format!("{} of {}", grouped(done), grouped(total)),
            _ => String::new(),
        })
    };
    view! {
        <li>
            <StatusIcon status />
            <a href=move || base.job_href(&row.id) on:click=move |_| open.set(false)>
                {move || format!("Part {}", index.get() + 1)}
            </a>
            <span class="batch-status" data-status=move || status.get().as_str()>
                {move || job.with(status_text)}
            </span>
            <span class="batch-far">{how_far}</span>
        </li>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::from_millis;

    #[test]
    fn the_rest_takes_as_long_in_proportion() {
        let (began, now) = (from_millis(0), from_millis(10_000));
        assert_eq!(left_ms(25.0, began, now), Some(30_000));
        assert_eq!(left_ms(0.5, began, now), None);
        assert_eq!(left_ms(100.0, began, now), None);
        assert_eq!(left_ms(50.0, now, began), None, "clocks differ");
        assert_eq!(overall(&[]), 0.0);
    }
}
