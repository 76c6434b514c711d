//! Search and filters. The address holds them; these controls show and change it.

use leptos::prelude::*;

use super::state::ListState;
use crate::domain::filter::QUERY_MAX;
use crate::domain::kind;
use crate::domain::status::Status;
use crate::domain::time::{from_input, to_input};
use crate::ui::components::Icon;
use crate::ui::components::inputs::{Choice, Line};
use crate::ui::live::Live;
use crate::ui::query::{Entry, JobsUrl, Span};
use crate::ui::text;

/// The bar above the list.
#[component]
pub fn Filters(list: ListState, kinds: Vec<String>) -> impl IntoView {
    let url = JobsUrl::expect();
    let query = url.query;
    Effect::new(move |_| {
        let (filter, sound) = query.with(|q| (q.filter.clone(), q.problem.is_none()));
        if sound {
            list.show(filter);
        }
    });
    let clear = Callback::new(move |()| url.clear());
    let q = Signal::derive(move || query.with(|q| q.filter.q.clone().unwrap_or_default()));
    let owner = Signal::derive(move || query.with(|q| q.filter.owner.clone().unwrap_or_default()));
    let set_q = Callback::new(move |text: String| {
        url.change(Entry::Replaced, |q| q.filter.q = some(text));
    });
    let set_owner = Callback::new(move |text: String| {
        url.change(Entry::Replaced, |q| q.filter.owner = some(text));
    });
    let active = Memo::new(move |_| query.with(|q| q.is_active()));
    let custom = Memo::new(move |_| query.with(|q| q.span == Span::Custom));
    view! {
        <form class="filters" role="search" aria-label="Jobs" on:submit=|ev| ev.prevent_default()>
            <span class="search-box">
                <Icon icon=icondata_lu::LuSearch />
                <Line label="Search jobs" name="q" kind="search" max=QUERY_MAX as u32 value=q on_text=set_q on_escape=clear />
            </span>
            <StatusChoice />
            <TypeChoice kinds />
            <SpanChoice />
            {move || custom.get().then(|| view! { <CustomSpan /> })}
            <span class="owner-box">
                <Line label="Owner" name="owner" kind="text" max=200 value=owner on_text=set_owner on_escape=clear />
            </span>
            {move || {
                active
                    .get()
                    .then(|| {
                        view! {
                            <span class="filters-active">
                                <span class="pill ok">"Filters active"</span>
                                <button type="button" class="btn ghost small" on:click=move |_| url.clear()>
                                    {text::CLEAR_ALL}
                                </button>
                            </span>
                        }
                    })
            }}
        </form>
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

#[component]
fn StatusChoice() -> impl IntoView {
    let url = JobsUrl::expect();
    let value = Signal::derive(move || {
        url.query
            .with(|q| q.filter.status.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(","))
    });
    let options = Signal::derive(move || {
        const ORDER: [Status; 10] = [
            Status::Pending,
            Status::Running,
            Status::Completed,
            Status::Failed,
            Status::Cancelled,
            Status::Dead,
            Status::Retrying,
            Status::Scheduled,
            Status::Blocked,
            Status::Paused,
        ];
        let mut options = vec![(String::new(), "All statuses".to_string())];
        options.extend(ORDER.map(|s| (s.as_str().to_string(), text::status_choice(s).to_string())));
        // Several statuses can be asked for by the address alone.
        url.query.with(|q| {
            if q.filter.status.len() > 1 {
                let words: Vec<_> = q.filter.status.iter().map(|s| text::status_choice(*s)).collect();
                options.push((value.get(), words.join(", ")));
            }
        });
        options
    });
    let pick = Callback::new(move |picked: String| {
        url.change(Entry::New, |q| {
            q.filter.status = picked.split(',').filter_map(Status::parse).collect()
        });
    });
    view! { <Choice label="Status" name="status" options value on_pick=pick /> }
}

#[component]
fn TypeChoice(kinds: Vec<String>) -> impl IntoView {
    let url = JobsUrl::expect();
    let live = Live::expect();
    let kinds: Vec<_> = kinds
        .into_iter()
        .map(|name| (name.clone(), kind::label(&name)))
        .collect();
    let kinds = StoredValue::new(kinds);
    let value = Signal::derive(move || url.query.with(|q| q.filter.kind.clone().unwrap_or_default()));
    let options = Memo::new(move |_| {
        let mut options = vec![(String::new(), "All types".to_string())];
        options.extend(kinds.get_value());
        // Jobs of kinds that this server doesn't know are still there to be found.
        let others = live
            .overview
            .with(|o| o.as_ref().map(|o| o.counts.by_type.keys().cloned().collect::<Vec<_>>()));
        for name in others.into_iter().flatten().chain([value.get()]) {
            if !options.iter().any(|(known, _)| *known == name) {
                let label = kind::label(&name);
                options.push((name, label));
            }
        }
        options
    });
    let pick = Callback::new(move |picked: String| {
        url.change(Entry::New, |q| q.filter.kind = some(picked));
    });
    view! { <Choice label="Type" name="type" options value on_pick=pick /> }
}

#[component]
fn SpanChoice() -> impl IntoView {
    let url = JobsUrl::expect();
    let value = Signal::derive(move || url.query.with(|q| q.span.as_str().to_string()));
    let options: Vec<_> = Span::ALL
        .iter()
        .map(|s| (s.as_str().to_string(), s.label().to_string()))
        .collect();
    let pick = Callback::new(move |picked: String| {
        let span = Span::parse(&picked);
        url.change(Entry::New, |q| {
            // A custom span begins as the one that was shown before.
            if span != Span::Custom {
                q.filter.created_after = None;
                q.filter.created_before = None;
            }
            q.span = span;
        });
    });
    view! { <Choice label="Created" name="range" options=Signal::stored(options) value on_pick=pick /> }
}

#[component]
fn CustomSpan() -> impl IntoView {
    let url = JobsUrl::expect();
    let from = move || {
        url.query
            .with(|q| q.filter.created_after.map(to_input).unwrap_or_default())
    };
    let until = move || {
        url.query
            .with(|q| q.filter.created_before.map(to_input).unwrap_or_default())
    };
    view! {
        <span class="span-custom">
            <input
                type="datetime-local"
                aria-label="Created after (UTC)"
                prop:value=from
                value=from
                on:change=move |ev| {
                    let at = from_input(&event_target_value(&ev));
                    url.change(Entry::New, |q| q.filter.created_after = at);
                }
            />
            <span aria-hidden="true">"–"</span>
            <input
                type="datetime-local"
                aria-label="Created before (UTC)"
                prop:value=until
                value=until
                on:change=move |ev| {
                    let at = from_input(&event_target_value(&ev));
                    url.change(Entry::New, |q| q.filter.created_before = at);
                }
            />
        </span>
    }
}

/// The bar before it is known.
#[component]
pub fn FiltersSkeleton() -> impl IntoView {
    view! {
        <div class="filters" aria-hidden="true">
            <span class="skeleton wide"></span>
        </div>
    }
}
