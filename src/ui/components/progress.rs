//! How far a job is.

use leptos::prelude::*;

use crate::domain::status::Status;

/// A bar that fills this percentage of its room, in the status's colour. A picture, since no style attribute may say how wide it is.
#[component]
pub fn Bar(
    /// 0 to 100.
    share: Signal<f64>,
) -> impl IntoView {
    view! {
        <svg class="bar" aria-hidden="true">
            <rect width=move || format!("{:.1}%", share.get()) height="100%" />
        </svg>
    }
}

/// A thin bar in the status's colour. Nothing is drawn while the percentage is unknown.
#[component]
pub fn ProgressBar(
    /// 0 to 100.
    #[prop(into)]
    percent: Signal<Option<f64>>,
    #[prop(into)] status: Signal<Status>,
    /// What progresses, for screen readers.
    label: &'static str,
) -> impl IntoView {
    let value = Memo::new(move |_| {
        percent
            .get()
            .map(|p| if p.is_finite() { p.clamp(0.0, 100.0) } else { 0.0 })
    });
    let known = Memo::new(move |_| value.get().is_some());
    move || {
        known.get().then(|| {
            let value = move || value.get().unwrap_or_default();
            view! {
                <div
                    class="progress"
                    role="progressbar"
                    aria-label=label
                    aria-valuemin="0"
                    aria-valuemax="100"
                    aria-valuenow=move || format!("{:.0}", value().floor())
                    data-status=move || status.get().as_str()
                >
                    <Bar share=Signal::derive(value) />
                </div>
            }
        })
    }
}
