//! The line that says how the system fares.

use leptos::prelude::*;

use crate::domain::error::Problem;
use crate::domain::page::grouped;
use crate::domain::stats::{Check, Grade, Overview};
use crate::domain::status::Status;
use crate::ui::components::{Icon, StatusIcon};
use crate::ui::live::Live;
use crate::ui::query::JobsUrl;

/// The statuses that are counted here, in the order of their urgency to the eye.
const COUNTED: [Status; 5] = [
    Status::Pending,
    Status::Running,
    Status::Failed,
    Status::Completed,
    Status::Dead,
];

/// Database, queue, workers and API at the left; counts that filter the list at the right.
#[component]
pub fn StatusStrip(
    /// What was known when the page was made; the live stream goes on from there.
    first: Result<Overview, Problem>,
) -> impl IntoView {
    let live = Live::expect();
    let first = StoredValue::new(first);
    let overview = Memo::new(move |_| live.overview.get().map_or_else(|| first.get_value(), Ok));
    let check = move |f: fn(&Overview) -> &Check| {
        Signal::derive(move || {
            overview.with(|o| match o {
                Ok(o) => f(o).clone(),
                Err(problem) => Check {
                    grade: Grade::Critical,
                    text: problem.title.clone(),
                },
            })
        })
    };
    let checks = [
        (
            "Database",
            icondata_lu::LuDatabase,
            check(|o| &o.health.checks.database),
        ),
        ("Queue", icondata_lu::LuLayers, check(|o| &o.health.checks.queue)),
        ("Workers", icondata_lu::LuCpu, check(|o| &o.health.checks.workers)),
        ("API", icondata_lu::LuServer, check(|o| &o.health.checks.api)),
    ]
    .map(|(name, icon, check)| view! { <CheckItem name icon check /> })
    .collect_view();
    let counts = COUNTED
        .map(|status| {
            let count = Memo::new(move |_| overview.with(|o| o.as_ref().map_or(0, |o| o.counts.of(status))));
            view! { <CountItem status count=count.into() /> }
        })
        .collect_view();
    let warnings = move || {
        let list = overview.with(|o| o.as_ref().map(|o| o.health.checks.warnings.clone()).unwrap_or_default());
        (!list.is_empty()).then(|| {
            view! {
                <p class="strip-warnings">
                    <Icon icon=icondata_lu::LuTriangleAlert />
                    {list.join(" ")}
                </p>
            }
        })
    };
    view! {
        <section class="strip" aria-label="System status">
            <ul role="list" class="strip-checks">
                {checks}
            </ul>
            <ul role="list" class="strip-counts" aria-label="Jobs by status">
                {counts}
            </ul>
            {warnings}
        </section>
    }
}

#[component]
fn CheckItem(name: &'static str, icon: icondata_core::Icon, check: Signal<Check>) -> impl IntoView {
    let grade = Memo::new(move |_| check.with(|c| c.grade));
    let text = Memo::new(move |_| check.with(|c| c.text.clone()));
    let class = move || match grade.get() {
        Grade::Healthy => "check ok",
        Grade::Degraded => "check warn",
        Grade::Critical => "check bad",
    };
    view! {
        <li class=class title=move || format!("{name}: {}", grade.get().label())>
            <Icon icon />
            <span class="check-name">{name}</span>
            <span class="check-text">
                <span class="dot" aria-hidden="true"></span>
                <span class="visually-hidden">{move || format!("{}: ", grade.get().label())}</span>
                {move || text.get()}
            </span>
        </li>
    }
}

#[component]
fn CountItem(status: Status, count: Signal<u64>) -> impl IntoView {
    let url = JobsUrl::expect();
    let base = super::JobsBase::expect().path;
    let here = Memo::new(move |_| url.query.with(|q| q.filter.status == [status]));
    view! {
        <li>
            <a
                class="count"
                class:zero=move || count.get() == 0
                href=format!("{base}?status={status}")
                aria-current=move || here.get().then_some("true")
            >
                <StatusIcon status=Signal::stored(status) />
                <span class="count-label">{status.label()}</span>
                <span class="count-number">{move || grouped(count.get())}</span>
            </a>
        </li>
    }
}

/// The strip before it is known.
#[component]
pub fn StripSkeleton() -> impl IntoView {
    view! {
        <div class="strip" aria-hidden="true">
            <span class="skeleton wide"></span>
        </div>
    }
}
