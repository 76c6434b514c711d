//! What stands above the lines: the connection, the counts, the filters, and what can be done with the log.

use leptos::prelude::*;

use super::book::LogBook;
use super::feed::{Feed, Link};
use crate::browser;
use crate::domain::job::Job;
use crate::domain::log::Level;
use crate::domain::page::grouped;
use crate::ui::components::Icon;

/// How long typing must rest before the lines are filtered.
const REST_MS: u32 = 150;

#[component]
pub fn Toolbar(job: Signal<Job>, book: RwSignal<LogBook>, feed: Feed, follow: RwSignal<bool>) -> impl IntoView {
    let id = job.with_untracked(|j| j.id);
    let least = StoredValue::new(None::<Level>);
    let text = StoredValue::new(String::new());
    let typing = StoredValue::new(None::<browser::Timer>);
    let apply = move || {
        let text = text.get_value();
        book.try_update(|b| b.filter(least.get_value(), &text));
    };
    let search = move |value: String| {
        text.set_value(value);
        let timer = browser::after(REST_MS, apply);
        typing.update_value(|t| *t = Some(timer));
    };
    let counts = Memo::new(move |_| book.with(LogBook::counts));
    view! {
        <header class="logs-head">
            <h3>
                <Icon icon=icondata_lu::LuFileText />
                "Job Logs"
            </h3>
            <ConnectionIndicator feed=feed />
            <span class="logs-count">
                {move || {
                    let (all, shown) = counts.get();
                    format!("{} of {} logs", grouped(shown as u64), grouped(all as u64))
                }}
            </span>
            <div class="logs-tools">
                <select
                    aria-label="Minimum level"
                    on:change=move |ev| {
                        least.set_value(Level::parse(&event_target_value(&ev)));
                        apply();
                    }
                >
                    <option value="">"All levels"</option>
                    {Level::ALL.map(|l| view! { <option value=l.as_str()>{l.label()}</option> }).collect_view()}
                </select>
                <input
                    type="search"
                    aria-label="Search logs"
                    placeholder="Search logs"
                    autocomplete="off"
                    spellcheck="false"
                    maxlength="200"
                    on:input=move |ev| search(event_target_value(&ev))
                    on:keydown=move |ev| {
                        if ev.key() == "Escape" {
                            // The page's own meaning of Escape, clearing its filters, is not meant here.
                            ev.prevent_default();
                            ev.stop_propagation();
                            event_target::<leptos::web_sys::HtmlInputElement>(&ev).set_value("");
                            search(String::new());
                        }
                    }
                />
                <button
                    type="button"
                    class="btn icon small follow"
                    aria-label="Auto-scroll"
                    title="Auto-scroll: stay at the newest line"
                    aria-pressed=move || follow.get().to_string()
                    on:click=move |_| follow.update(|f| *f = !*f)
                >
                    <Icon icon=icondata_lu::LuArrowDownToLine />
                </button>
                <button
                    type="button"
                    class="btn icon small"
                    aria-label="Clear logs"
                    title="Clear the lines shown here; the stored log stays"
                    disabled=move || counts.get().0 == 0
                    on:click=move |_| book.update(LogBook::clear)
                >
                    <Icon icon=icondata_lu::LuEraser />
                </button>
                <a
                    class="btn icon small"
                    href=format!("/api/jobs/{id}/logs?format=text")
                    download=format!("job-{id}.log")
                    aria-label="Download logs"
                    title="Download the whole log"
                >
                    <Icon icon=icondata_lu::LuDownload />
                </a>
            </div>
        </header>
    }
}

/// Live, Reconnecting, Offline or Failed, by colour and word; a failed one can be clicked.
#[component]
fn ConnectionIndicator(feed: Feed) -> impl IntoView {
    let link = feed.link;
    let class = move || match link.get() {
        Link::Connecting | Link::Ended => "link offline",
        Link::Live => "link live",
        Link::Reconnecting(_) => "link reconnecting",
        Link::Failed => "link failed",
    };
    let words = move || match link.get() {
        Link::Connecting => "Connecting".to_string(),
        Link::Live => "Live".to_string(),
        Link::Reconnecting(n) => format!("Reconnecting ({n})"),
        Link::Ended => "Offline".to_string(),
        Link::Failed => "Failed".to_string(),
    };
    let explained = move || match link.get() {
        Link::Connecting => "Asking the server for the log",
        Link::Live => "New lines appear as the job writes them",
        Link::Reconnecting(_) => "The connection broke; trying again. No line is lost.",
        Link::Ended => "The job has ended; this is its stored log",
        Link::Failed => "The server can't be reached. Click to try again.",
    };
    let failed = Memo::new(move |_| link.get() == Link::Failed);
    view! {
        <span role="status" class="link-box">
            {move || {
                if failed.get() {
                    view! {
                        <button type="button" class=class title=explained on:click=move |_| feed.retry()>
                            <span class="dot" aria-hidden="true"></span>
                            {words}
                            <span class="visually-hidden">". Try again"</span>
                        </button>
                    }
                        .into_any()
                } else {
                    view! {
                        <span class=class title=explained>
                            <span class="dot" aria-hidden="true"></span>
                            {words}
                        </span>
                    }
                        .into_any()
                }
            }}
        </span>
    }
}
