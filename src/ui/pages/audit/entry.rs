//! One entry of the log.

use leptos::prelude::*;
use serde_json::Value;

use super::words;
use crate::domain::audit::{AuditEntry, Deed};
use crate::domain::job::{JobId, short_id};
use crate::ui::components::{CopyButton, JsonView, RelativeTime};

/// What was done, to what, by whom, when and from where; what it changed unfolds.
#[component]
pub fn Entry(entry: AuditEntry) -> impl IntoView {
    let AuditEntry { seq, at, deed, hash } = entry;
    let Deed {
        actor,
        via,
        token,
        address,
        action,
        object,
        name,
        before,
        after,
        reason,
    } = deed;
    let open = RwSignal::new(false);
    let started = started(after.as_ref());
    // A token is called by its name, of which there may be several.
    let called = (object == "token")
        .then(|| called(before.as_ref().or(after.as_ref())))
        .flatten();
    let rest = StoredValue::new((before, after, hash));
    view! {
        <li class="entry deed">
            <div class="entry-main">
                <span class="entry-title">
                    <span title=action.clone()>{words::action(&action)}</span>
                    {called.map(|called| view! { <span class="deed-object">{format!("“{called}”")}</span> })}
                    <Object object name />
                    {started.map(|id| view! { <Started id /> })}
                </span>
                <span class="entry-facts">
                    <RelativeTime at=Signal::stored(Some(at)) />
                    <span class="deed-actor">{actor}</span>
                    <span>{words::via(via)}</span>
                    {token
                        .map(|token| {
                            view! {
                                // Names may be the same: the end of the id tells them apart, and the whole of it is beside it.
                                <span title=token.id.to_string()>
                                    {format!("“{}” #{}", token.name, short_id(&token.id))}
                                </span>
                            }
                        })}
                    {(!address.is_empty()).then(|| view! { <span>{address}</span> })}
                    {(!reason.is_empty()).then(|| view! { <span>{format!("“{reason}”")}</span> })}
                </span>
            </div>
            <details
                class="deed-more"
                on:toggle=move |ev| {
                    let details = event_target::<leptos::web_sys::Element>(&ev);
                    open.set(details.has_attribute("open"));
                }
            >
                <summary>
                    "Details"
                    <span class="visually-hidden">{format!(" of entry {seq}")}</span>
                </summary>
                {move || {
                    open.get()
                        .then(|| {
                            let (before, after, hash) = rest.get_value();
                            view! { <More seq before after hash /> }
                        })
                }}
            </details>
        </li>
    }
}

/// What it was done to, with a link where there is a page for it.
#[component]
fn Object(object: String, name: String) -> impl IntoView {
    match target(&object, &name) {
        Some((href, words)) => view! {
            <a class="deed-object" href=href title=name>
                <span class="visually-hidden">{format!("{object} ")}</span>
                {words}
            </a>
        }
        .into_any(),
        None => {
            // Of a token the end of the id is enough: its name is beside it.
            let id = name.parse::<JobId>().ok().filter(|_| object == "token");
            let words = id.map_or_else(|| name.clone(), |id| format!("#{}", short_id(&id)));
            let title = if id.is_some() { name } else { object };
            view! {
                <span class="deed-object" title=title>
                    {words}
                </span>
            }
            .into_any()
        }
    }
}

/// The job that was started by it, beside the one or the schedule that it was done to.
#[component]
fn Started(id: JobId) -> impl IntoView {
    view! {
        <span>
            "started "
            <a class="deed-object" href=format!("/jobs/{id}") title=id.to_string()>
                <span class="visually-hidden">"job "</span>
                {format!("#{}", short_id(&id))}
            </a>
        </span>
    }
}

/// Where an object is seen, and how it is called there.
fn target(object: &str, name: &str) -> Option<(String, String)> {
    let short = || Some(format!("#{}", short_id(&name.parse::<JobId>().ok()?)));
    let list = |field: &str| Some(format!("/jobs?{}", serde_urlencoded::to_string([(field, name)]).ok()?));
    match object {
        "job" => Some((format!("/jobs/{name}"), short()?)),
        "batch" => Some((list("batch")?, short()?)),
        "queue" => Some((list("queue")?, name.into())),
        _ => None,
    }
}

/// What it is called, as the entry has it.
fn called(noted: Option<&Value>) -> Option<String> {
    noted?.get("name")?.as_str().map(str::to_string)
}

/// The id of a job that what is noted after a deed names.
fn started(after: Option<&Value>) -> Option<JobId> {
    after?.get("job")?.as_str()?.parse().ok()
}

/// What changed, side by side, and the entry's place in the chain.
#[component]
fn More(seq: u64, before: Option<Value>, after: Option<Value>, hash: String) -> impl IntoView {
    let part = |title: &'static str, label: &'static str, value: Value| {
        view! {
            <div class="deed-side">
                <span class="label">{title}</span>
                <JsonView value=Signal::stored(value) label />
            </div>
        }
    };
    let nothing = before.is_none() && after.is_none();
    view! {
        <div class="deed-body">
            {nothing.then(|| view! { <p class="hint">"This action changes nothing that could be shown."</p> })}
            <div class="deed-sides">
                {before.map(|value| part("Before", "Before", value))}
                {after.map(|value| part("After", "After", value))}
            </div>
            <p class="deed-hash">
                <span class="label">{format!("Entry {seq}, hash")}</span>
                <code>{hash.clone()}</code>
                <CopyButton text=Signal::stored(hash) label="Copy hash" />
            </p>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_a_page_is_linked() {
        let id = "0198c0de-0000-7000-8000-00000000abcd";
        let href = |object: &str, name: &str| target(object, name).map(|(href, _)| href);
        assert_eq!(href("job", id), Some(format!("/jobs/{id}")));
        assert_eq!(href("batch", id), Some(format!("/jobs?batch={id}")));
        assert_eq!(href("queue", "a&b"), Some("/jobs?queue=a%26b".into()));
        assert_eq!((href("job", "../users"), href("user", "ada@example.org")), (None, None));
        assert_eq!(
            started(Some(&json!({ "job": id }))).map(|id| id.to_string()).as_deref(),
            Some(id)
        );
        assert_eq!(started(Some(&json!({ "jobs": 2 }))), None);
    }
}
