//! What happened to the job: its changes of status and its attempts.

use leptos::prelude::*;

use super::section::Section;
use super::selected::Selected;
use crate::domain::job::{Attempt, Transition};
use crate::domain::time::{clock, duration, exact};
use crate::ui::components::StatusIcon;

#[component]
pub fn Timeline(selected: Selected) -> impl IntoView {
    let transitions = Memo::new(move |_| selected.detail.with(|d| d.transitions.clone()));
    let attempts = Memo::new(move |_| selected.detail.with(|d| d.attempts.clone()));
    let some_attempts = Memo::new(move |_| attempts.with(|a| !a.is_empty()));
    let note = Signal::derive(move || Some(transitions.with(Vec::len).to_string()));
    view! {
        <Section title="Timeline" note=note>
            <ol class="timeline">
                {move || transitions.get().into_iter().map(|t| view! { <Change change=t /> }).collect_view()}
            </ol>
            {move || {
                some_attempts
                    .get()
                    .then(|| {
                        view! {
                            <div class="table-box" role="group" aria-label="Attempts" tabindex="0">
                                <table class="table attempts">
                                    <caption>"Attempts"</caption>
                                    <thead>
                                        <tr>
                                            <th scope="col">"No."</th>
                                            <th scope="col">"Started"</th>
                                            <th scope="col">"Took"</th>
                                            <th scope="col">"CPU time"</th>
                                            <th scope="col">"Outcome"</th>
                                            <th scope="col">"Worker"</th>
                                        </tr>
                                    </thead>
                                    <tbody>
                                        {move || {
                                            attempts.get().into_iter().map(|a| view! { <Try attempt=a /> }).collect_view()
                                        }}
                                    </tbody>
                                </table>
                            </div>
                        }
                    })
            }}
        </Section>
    }
}

#[component]
fn Change(change: Transition) -> impl IntoView {
    let to = change.to;
    let words = match change.from {
        None => "Enqueued".to_string(),
        Some(from) if from == to => to.label().to_string(),
        Some(from) => format!("{} → {}", from.label(), to.label()),
    };
    view! {
        <li class="change">
            <StatusIcon status=Signal::derive(move || to) />
            <span class="change-words">{words}</span>
            <time datetime=change.at.to_rfc3339() title=exact(change.at)>
                {clock(change.at)}
            </time>
            <span class="change-why">
                {format!("by {}", change.by)} {(!change.reason.is_empty()).then(|| format!(": {}", change.reason))}
            </span>
        </li>
    }
}

/// "1.2 s", "40 ms", "under 1 ms".
fn cpu_label(ms: u64) -> String {
    match ms {
        0 => "under 1 ms".into(),
        1..1_000 => format!("{ms} ms"),
        _ => duration(i64::try_from(ms).unwrap_or(i64::MAX)),
    }
}

#[component]
fn Try(attempt: Attempt) -> impl IntoView {
    let took = attempt
        .ended_at
        .map(|end| duration((end - attempt.started_at).num_milliseconds()));
    let cpu = attempt.cpu_ms.map(cpu_label);
    let outcome = attempt.outcome.map_or("Running", |o| o.label());
    view! {
        <tr>
            <td>{attempt.number}</td>
            <td>
                <time datetime=attempt.started_at.to_rfc3339() title=exact(attempt.started_at)>
                    {clock(attempt.started_at)}
                </time>
            </td>
            <td>{took.unwrap_or_else(|| "–".into())}</td>
            <td>{cpu.unwrap_or_else(|| "–".into())}</td>
            <td>{outcome}</td>
            <td class="attempt-worker" title=attempt.worker.clone()>
                {attempt.worker.clone()}
            </td>
        </tr>
        {attempt
            .error
            .map(|e| {
                view! {
                    <tr class="attempt-more">
                        <td colspan="6">
                            <details class="attempt-error">
                                <summary>{e.code.as_str()}</summary>
                                <pre tabindex="0" role="group" aria-label="Error of the attempt">
                                    {match e.stack {
                                        Some(stack) => format!("{}\n{stack}", e.message),
                                        None => e.message,
                                    }}
                                </pre>
                            </details>
                        </td>
                    </tr>
                }
            })}
    }
}
