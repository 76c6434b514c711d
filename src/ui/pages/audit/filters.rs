//! What narrows the log. The address holds it; these controls show and change it.

use leptos::prelude::*;

use super::address::{AuditUrl, export_href};
use super::words::{self, OBJECTS};
use crate::domain::audit::AuditFilter;
use crate::domain::time::{Timestamp, from_input, to_input};
use crate::ui::components::inputs::{Choice, Line};
use crate::ui::query::Entry;
use crate::ui::text;

/// Where the log is had as a file.
const EXPORT: &str = "/api/admin/audit-logs/export";

#[component]
pub fn Filters(url: AuditUrl, actions: Vec<String>) -> impl IntoView {
    let clear = Callback::new(move |()| url.clear());
    let action = url.part(|f| f.action.clone());
    let options = Memo::new(move |_| {
        let mut options = vec![(String::new(), "All actions".to_string())];
        options.extend(actions.iter().map(|name| (name.clone(), words::action(name))));
        let asked = action.get();
        if !options.iter().any(|(name, _)| *name == asked) {
            options.push((asked.clone(), words::action(&asked)));
        }
        options
    });
    let mut objects = vec![(String::new(), "All objects".to_string())];
    objects.extend(OBJECTS.map(|(name, words)| (name.to_string(), words.to_string())));
    let active = Memo::new(move |_| url.asked.with(|a| a.as_ref().map_or(true, |f| !f.is_empty())));
    let set = move |entry: Entry, part: fn(&mut AuditFilter, Option<String>)| {
        Callback::new(move |text: String| {
            url.change(entry, |f| part(f, Some(text).filter(|t| !t.is_empty())));
        })
    };
    view! {
        <form class="filters" role="search" aria-label=text::AUDIT_LOG on:submit=|ev| ev.prevent_default()>
            <span class="filter-line">
                <Line
                    label="Who"
                    name="actor"
                    kind="search"
                    max=300
                    value=url.part(|f| f.actor.clone())
                    on_text=set(Entry::Replaced, |f, text| f.actor = text)
                    on_escape=clear
                />
            </span>
            <Choice
                label="Action"
                name="action"
                options
                value=action
                on_pick=set(Entry::New, |f, name| f.action = name)
            />
            <Choice
                label="Object"
                name="object"
                options=Signal::stored(objects)
                value=url.part(|f| f.object.clone())
                on_pick=set(Entry::New, |f, name| f.object = name)
            />
            <span class="filter-line">
                <Line
                    label="Name or id"
                    name="name"
                    kind="search"
                    max=300
                    value=url.part(|f| f.name.clone())
                    on_text=set(Entry::Replaced, |f, text| f.name = text)
                    on_escape=clear
                />
            </span>
            <span class="span-custom">
                <Moment label="Since (UTC)" value=url.part(|f| f.since.map(to_input)) on_pick=move |at| {
                    url.change(Entry::New, |f| f.since = at)
                } />
                <span aria-hidden="true">"–"</span>
                <Moment label="Until (UTC)" value=url.part(|f| f.until.map(to_input)) on_pick=move |at| {
                    url.change(Entry::New, |f| f.until = at)
                } />
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

/// A moment, in UTC.
#[component]
fn Moment(label: &'static str, value: Signal<String>, on_pick: impl Fn(Option<Timestamp>) + 'static) -> impl IntoView {
    view! {
        <input
            type="datetime-local"
            aria-label=label
            title=label
            prop:value=move || value.get()
            value=value.get_untracked()
            on:change=move |ev| on_pick(from_input(&event_target_value(&ev)))
        />
    }
}

/// The entries that the filter lets through, as files.
#[component]
pub fn ExportLinks(url: AuditUrl) -> impl IntoView {
    let link = move |format: &'static str, words: &'static str| {
        view! {
            <a
                class="btn"
                href=move || export_href(EXPORT, &url.filter(), format)
                download=format!("audit-log.{format}")
                rel="external"
            >
                <span class="btn-label">"Export "</span>
                {words}
            </a>
        }
    };
    view! {
        {link("csv", "CSV")}
        {link("ndjson", "NDJSON")}
    }
}
