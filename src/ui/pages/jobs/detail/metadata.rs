//! The facts about the job.

use leptos::prelude::*;

use super::selected::Selected;
use crate::domain::filter::JobFilter;
use crate::domain::job::{Job, short_id};
use crate::domain::kind::label;
use crate::domain::page::grouped;
use crate::domain::status::Status;
use crate::domain::time::{Timestamp, duration, exact};
use crate::ui::components::{CopyButton, RelativeTime};
use crate::ui::live::Live;
use crate::ui::pages::jobs::JobsBase;

#[component]
pub fn Metadata(job: Signal<Job>, selected: Selected) -> impl IntoView {
    let base = JobsBase::expect();
    let now = Live::expect().now;
    // Only a running job's facts change as time goes by.
    let moment = move || match job.with(|j| j.status) {
        Status::Running => now.get(),
        _ => now.get_untracked(),
    };
    let took = move || job.with(|j| j.duration_ms(moment())).map(duration);
    let items = move || {
        job.with(|j| match (j.done, j.total) {
            (Some(done), Some(total)) => Some(format!("{} of {}", grouped(done), grouped(total))),
            (Some(done), None) => Some(grouped(done)),
            _ => None,
        })
    };
    let speed = move || job.with(|j| j.throughput(moment())).map(speed_label);
    let left = move || {
        job.with(|j| j.remaining_ms(moment()))
            .map(|ms| format!("about {}", duration(ms)))
    };
    let due = move || job.with(|j| matches!(j.status, Status::Retrying | Status::Scheduled).then_some(j.run_at));
    let batch = Memo::new(move |_| job.with(|j| j.batch));
    let id = selected.id.to_string();
    view! {
        <dl class="facts">
            <div class="fact fact-id">
                <dt>"ID"</dt>
                <dd>
                    <code title=id.clone()>{id.clone()}</code>
                    <CopyButton text=id label="Copy job ID" />
                </dd>
            </div>
            <Fact name="Type" value=move || Some(job.with(|j| label(&j.kind))) />
            <Fact name="Queue" value=move || Some(job.with(|j| j.queue.clone())) />
            <Fact name="Priority" value=move || Some(job.with(|j| j.priority.label().to_string())) />
            <Fact name="Owner" value=move || Some(job.with(|j| j.owner.clone())) />
            <Fact name="Worker" value=move || job.with(|j| j.worker.clone()) />
            <Moment name="Created" at=Signal::derive(move || job.with(|j| Some(j.created_at))) otherwise="" />
            <Moment name="Started" at=Signal::derive(move || job.with(|j| j.started_at)) otherwise="Not started" />
            <Moment
                name="Completed"
                at=Signal::derive(move || job.with(|j| j.completed_at))
                otherwise="Not completed"
            />
            <Fact name="Duration" value=took />
            <Fact
                name="Attempts"
                value=move || Some(job.with(|j| format!("{} / {}", j.attempt, j.max_attempts)))
            />
            {move || {
                let at = due()?;
                let name = if job.with(|j| j.status) == Status::Retrying { "Next retry" } else { "Runs at" };
                Some(view! { <Moment name=name at=Signal::derive(move || Some(at)) otherwise="" /> })
            }}
            {move || {
                let batch = batch.get()?;
                let filter = JobFilter {
                    batch: Some(batch),
                    ..JobFilter::default()
                };
                let name = selected.detail.with_untracked(|d| d.batch_name.clone()).filter(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| format!("#{}", short_id(&batch)));
                Some(
                    view! {
                        <div class="fact">
                            <dt>"Batch"</dt>
                            <dd title=name.clone()>
                                <a href=base.filtered_href(&filter)>{format!("All jobs of {name}")}</a>
                            </dd>
                        </div>
                    },
                )
            }}
            <Passing
                name="Crashes"
                value=move || job.with(|j| (j.crashes > 0).then(|| format!("{} (its worker died)", j.crashes)))
            />
            <Passing name="Items" value=items />
            <Passing name="Throughput" value=speed />
            <Passing name="Time left" value=left />
        </dl>
    }
}

/// "1,234 / s", "0.4 / s".
fn speed_label(per_second: f64) -> String {
    if per_second >= 10.0 {
        format!("{} / s", grouped(per_second.round() as u64))
    } else {
        format!("{per_second:.1} / s")
    }
}

/// A name and a value; a dash where there is none.
#[component]
fn Fact(name: &'static str, value: impl Fn() -> Option<String> + Send + Sync + 'static) -> impl IntoView {
    let value = Memo::new(move |_| value().filter(|v| !v.is_empty()));
    view! {
        <div class="fact" class:absent=move || value.with(Option::is_none)>
            <dt>{name}</dt>
            <dd title=move || value.get()>{move || value.get().unwrap_or_else(|| "–".into())}</dd>
        </div>
    }
}

/// A name and a value; nothing where there is none.
#[component]
fn Passing(name: &'static str, value: impl Fn() -> Option<String> + Send + Sync + Copy + 'static) -> impl IntoView {
    let known = Memo::new(move |_| value().is_some());
    move || known.get().then(|| view! { <Fact name=name value=value /> })
}

/// A name and a moment, as people say it and exactly.
#[component]
fn Moment(name: &'static str, at: Signal<Option<Timestamp>>, otherwise: &'static str) -> impl IntoView {
    let known = Memo::new(move |_| at.get().is_some());
    view! {
        <div class="fact" class:absent=move || !known.get()>
            <dt>{name}</dt>
            <dd>
                {move || {
                    if known.get() {
                        view! {
                            <RelativeTime at=at />
                            <span class="fact-exact">{move || at.get().map(exact)}</span>
                        }
                            .into_any()
                    } else {
                        otherwise.into_any()
                    }
                }}
            </dd>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::speed_label;

    #[test]
    fn speeds_read_well() {
        assert_eq!(speed_label(1_234.4), "1,234 / s");
        assert_eq!(speed_label(0.44), "0.4 / s");
    }
}
