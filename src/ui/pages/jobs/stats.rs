//! The Stats panel: how many jobs there are, by status and by type.

use std::collections::BTreeMap;

use leptos::prelude::*;

use crate::browser;
use crate::domain::error::Problem;
use crate::domain::kind;
use crate::domain::page::grouped;
use crate::domain::stats::{Counts, Overview};
use crate::domain::status::Status;
use crate::ui::components::dialog::Dialog;
use crate::ui::components::progress::Bar;
use crate::ui::components::{Icon, StatusIcon};
use crate::ui::live::Live;
use crate::ui::query::JobsUrl;

/// The columns of the table of types: related statuses share one.
const COLUMNS: [(&str, &[Status]); 5] = [
    (
        "Waiting",
        &[
            Status::Scheduled,
            Status::Blocked,
            Status::Pending,
            Status::Retrying,
            Status::Paused,
        ],
    ),
    ("Running", &[Status::Running]),
    ("Completed", &[Status::Completed]),
    ("Failed", &[Status::Failed, Status::Dead]),
    ("Cancelled", &[Status::Cancelled]),
];

/// Opens the panel. Its numbers are live.
#[component]
pub fn StatsButton(overview: Resource<Result<Overview, Problem>>) -> impl IntoView {
    let live = Live::expect();
    let url = JobsUrl::expect();
    let open = RwSignal::new(false);
    Effect::new(|_| {
        browser::next_frame(|| {
            lazy_preload!(stats_tables);
        });
    });
    // A link in the panel leads to a filtered list, which the panel would cover.
    Effect::new(move |_| {
        url.query.track();
        open.set(false);
    });
    let counts = Memo::new(move |_| {
        let fresh = live.overview.with(|o| o.as_ref().map(|o| o.counts.clone()));
        // Only read while the panel is open, which it never is while the page is rendered or comes to life.
        fresh.or_else(|| {
            open.get()
                .then(|| overview.get().and_then(Result::ok).map(|o| o.counts))
                .flatten()
        })
    });
    view! {
        <button type="button" class="btn" aria-haspopup="dialog" on:click=move |_| open.set(true)>
            <Icon icon=icondata_lu::LuChartNoAxesColumn />
            <span class="btn-label">"Stats"</span>
        </button>
        <Dialog id="stats" title="Stats" open class="wide">
            <Suspense fallback=|| ()>{move || Suspend::new(stats_tables(counts.into()))}</Suspense>
        </Dialog>
    }
}

/// The tables in a part of their own, which the browser fetches when the page has come alive.
#[lazy]
fn stats_tables(counts: Signal<Option<Counts>>) -> AnyView {
    view! { <StatsTables counts=counts /> }.into_any()
}

#[component]
fn StatsTables(counts: Signal<Option<Counts>>) -> impl IntoView {
    let base = super::JobsBase::expect().path;
    let by_status = Status::ALL
        .map(|status| {
            let count = move || counts.with(|c| c.as_ref().map_or(0, |c| c.of(status)));
            let share = move || {
                let total = counts.with(|c| c.as_ref().map_or(0, |c| c.total));
                if total == 0 {
                    0.0
                } else {
                    count() as f64 * 100.0 / total as f64
                }
            };
            view! {
                <tr>
                    <th scope="row">
                        <a class="stat-status" href=format!("{base}?status={status}")>
                            <StatusIcon status=Signal::stored(status) />
                            {status.label()}
                        </a>
                    </th>
                    <td class="number">{move || grouped(count())}</td>
                    <td class="stat-share" aria-hidden="true">
                        <div class="stat-bar" data-status=status.as_str()>
                            <Bar share=Signal::derive(share) />
                        </div>
                    </td>
                </tr>
            }
        })
        .collect_view();
    let by_type = move || {
        let types = counts.with(|c| c.as_ref().map(|c| c.by_type.clone()).unwrap_or_default());
        types
            .into_iter()
            .filter(|(_, by_status)| by_status.values().any(|n| *n > 0))
            .map(|(name, by_status)| type_row(base, &name, &by_status))
            .collect_view()
    };
    view! {
        <div class="stats">
            <table class="table">
                <caption>"Jobs by status"</caption>
                <thead>
                    <tr>
                        <th scope="col">"Status"</th>
                        <th scope="col" class="number">"Jobs"</th>
                        <td></td>
                    </tr>
                </thead>
                <tbody>{by_status}</tbody>
            </table>
            <table class="table">
                <caption>"Jobs by type"</caption>
                <thead>
                    <tr>
                        <th scope="col">"Type"</th>
                        {COLUMNS.map(|(name, _)| view! { <th scope="col" class="number">{name}</th> }).collect_view()}
                        <th scope="col" class="number">"All"</th>
                    </tr>
                </thead>
                <tbody>{by_type}</tbody>
            </table>
        </div>
    }
}

fn type_row(base: &str, name: &str, by_status: &BTreeMap<String, u64>) -> impl IntoView + use<> {
    let href = format!(
        "{base}?{}",
        serde_urlencoded::to_string([("type", name)]).unwrap_or_default()
    );
    let sum = |statuses: &[Status]| statuses.iter().filter_map(|s| by_status.get(s.as_str())).sum::<u64>();
    let cells = COLUMNS
        .map(|(_, statuses)| view! { <td class="number">{grouped(sum(statuses))}</td> })
        .collect_view();
    view! {
        <tr>
            <th scope="row">
                <a href=href>{kind::label(name)}</a>
            </th>
            {cells}
            <td class="number">{grouped(by_status.values().sum())}</td>
        </tr>
    }
}
