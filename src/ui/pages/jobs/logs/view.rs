//! The lines themselves: only those in sight are in the page, so that a hundred thousand scroll as smoothly as ten.

use leptos::html::Div;
use leptos::prelude::*;
use leptos::web_sys::KeyboardEvent;

use super::book::LogBook;
use super::feed::{Feed, Link};
use super::line::{LinePanel, LineRow};
use crate::browser;
use crate::domain::job::Job;
use crate::domain::log::LogLine;
use crate::ui::components::virtual_list::{Window, keep_style};

/// Height of a line in pixels; `style/logs.css` says the same.
const ROW: f64 = 20.0;

/// Height that the box is taken to have before it is measured.
const HEIGHT: f64 = 400.0;

/// The end counts as reached within this many pixels.
const NEAR: i32 = 24;

#[component]
pub fn LogView(job: Signal<Job>, book: RwSignal<LogBook>, feed: Feed, follow: RwSignal<bool>) -> impl IntoView {
    let window = Window::new(ROW, HEIGHT);
    let open = RwSignal::new(None::<u64>);
    let count = Memo::new(move |_| book.with(|b| b.counts().1));
    let range = Memo::new(move |_| window.range(count.get()));
    let rows = move || {
        let (start, end) = range.get();
        book.with(|b| b.slice(start..end))
    };
    let (space, shown) = (NodeRef::<Div>::new(), NodeRef::<Div>::new());
    keep_style(space, "height", move || format!("{}px", count.get() as f64 * ROW));
    keep_style(shown, "transform", move || {
        format!("translateY({}px)", range.get().0 as f64 * ROW)
    });

    stick_to_end(window, count, follow);
    let scrolled = scroll_handler(window, follow);
    let show = move |position: usize| {
        if let Some(line) = book.with_untracked(|b| b.slice(position..position + 1)).pop() {
            open.set(Some(line.n));
            window.reveal(position);
        }
    };
    let key = move |ev: KeyboardEvent| {
        let current = open.get_untracked().map(|n| book.with_untracked(|b| b.position(n)));
        match (ev.key().as_str(), current) {
            ("Enter", None) => {
                let (first, hidden) = window.anchor();
                show(if hidden > 0.0 { first + 1 } else { first });
            }
            ("ArrowDown", Some(at)) => show(at + 1),
            ("ArrowUp", Some(at)) => show(at.saturating_sub(1)),
            ("Escape" | "Enter", Some(_)) => open.set(None),
            ("End", _) => follow.set(true),
            _ => return,
        }
        ev.prevent_default();
        ev.stop_propagation();
    };

    let empty = Memo::new(move |_| count.get() == 0);
    // An opened line takes its room from the list: the line itself stays in view.
    Effect::new(move |_| {
        window.height.track();
        if let Some(n) = open.get_untracked() {
            window.reveal(book.with_untracked(|b| b.position(n)));
        }
    });
    view! {
        <div class="logs-body">
            <div
                node_ref=window.node
                class="log-lines"
                role="log"
                aria-label="Log lines"
                aria-live=move || if follow.get() { "polite" } else { "off" }
                tabindex="0"
                on:scroll=move |_| scrolled()
                on:keydown=key
            >
                <div class="log-space" node_ref=space>
                    <div class="log-window" node_ref=shown>
                        <For each=rows key=|line: &LogLine| line.n let:line>
                            <LineRow line=line open=open />
                        </For>
                    </div>
                </div>
                {move || empty.get().then(|| view! { <p class="log-empty">{nothing(job, book, feed)}</p> })}
            </div>
            {move || {
                let line = open.get().and_then(|n| book.with_untracked(|b| b.line(n)))?;
                let close = Callback::new(move |()| {
                    open.set(None);
                    if let Some(el) = window.node.get_untracked() {
                        let _ = el.focus();
                    }
                });
                Some(view! { <LinePanel line=line on_close=close /> })
            }}
        </div>
    }
}

/// Scrolls to the end whenever there are other lines, or following is switched on.
fn stick_to_end(window: Window, count: Memo<usize>, follow: RwSignal<bool>) {
    Effect::new(move |_| {
        count.track();
        // A taller box moves the end too.
        window.height.track();
        if !follow.get() {
            return;
        }
        // The space has its new height by the next frame.
        browser::next_frame(move || {
            if follow.try_get_untracked() == Some(true)
                && let Some(Some(el)) = window.node.try_get_untracked()
            {
                el.set_scroll_top(el.scroll_height());
                window.scrolled();
            }
        });
    });
}

/// Switches following off when a person scrolls up, and on again at the end. Who switched it off by its button has to
/// switch it on there.
fn scroll_handler(window: Window, follow: RwSignal<bool>) -> impl Fn() + Copy {
    let resumes = StoredValue::new(false);
    Effect::new(move |_| {
        if follow.get() {
            resumes.set_value(false);
        }
    });
    move || {
        let Some(el) = window.node.get_untracked() else { return };
        let before = window.top.get_untracked();
        window.scrolled();
        let at_end = el.scroll_height() - el.client_height() - el.scroll_top() <= NEAR;
        let following = follow.get_untracked();
        if following && !at_end && window.top.get_untracked() < before {
            follow.set(false);
            resumes.set_value(true);
        } else if !following && at_end && resumes.get_value() {
            follow.set(true);
        }
    }
}

/// Why no line is to be seen.
fn nothing(job: Signal<Job>, book: RwSignal<LogBook>, feed: Feed) -> impl Fn() -> &'static str {
    move || {
        if book.with(|b| b.counts().0 > 0) {
            "No line matches."
        } else if book.with(|b| b.last() > 0) {
            "Cleared. New lines appear here."
        } else {
            match feed.link.get() {
                Link::Ended => "This job wrote no log.",
                Link::Failed => "The log can't be loaded.",
                Link::Live if job.with(|j| j.status.is_waiting()) => "No log yet: lines appear when the job starts.",
                Link::Live => "No log yet.",
                Link::Connecting | Link::Reconnecting(_) => "Loading the log…",
            }
        }
    }
}
