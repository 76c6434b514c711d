//! The list of jobs.

use leptos::html::Ul;
use leptos::prelude::*;

use super::bulk::{BulkBar, SelectAll, Selection};
use super::detail::job_title;
use super::placeholders::{BadQuery, Failed, NoJobs, NoMatch, SkeletonRow, SkeletonRows};
use super::row::{JobRow, row_id};
use super::state::{ListState, ROW, Row};
use crate::browser::{self, Listener};
use crate::domain::filter::{Order, Sort};
use crate::domain::job::JobId;
use crate::domain::page::{count_label, grouped};
use crate::domain::stats::Overview;
use crate::ui::components::Icon;
use crate::ui::components::inputs::Choice;
use crate::ui::components::virtual_list::keep_style;
use crate::ui::live::Live;
use crate::ui::query::JobsUrl;
use crate::ui::text;

/// So many rows before the end of what is loaded, the next part is fetched.
const AHEAD: usize = 25;

/// The count, the order, and the rows.
#[component]
pub fn ListPane(
    list: ListState,
    /// What was known when the page was made.
    overview: Option<Overview>,
    may_enqueue: bool,
) -> impl IntoView {
    let url = JobsUrl::expect();
    let live = Live::expect();
    let overview = StoredValue::new(overview);
    let selection = Selection::expect();
    let count = Memo::new(move |_| {
        let filter = url.query.with(|q| q.filter.clone());
        match live.overview.get().or_else(|| overview.get_value()) {
            Some(o) => list.count(&filter, Some(&o)),
            None => list.count(&filter, None),
        }
    });
    Effect::new(move |_| {
        let loaded = list.rows.with(Vec::len);
        let (_, end) = list.window.range(loaded);
        if end + AHEAD >= loaded && list.has_more() && !list.loading.get() && list.problem.with(Option::is_none) {
            list.more();
        }
    });
    // The selected job of a shared address may be far down in what is loaded.
    Effect::new(move |done: Option<bool>| {
        if done != Some(true)
            && let Some(at) = url.selected().and_then(|id| list.position(id))
        {
            list.window.reveal(at);
        }
        true
    });

    let failed = Memo::new(move |_| url.query.with(|q| q.problem.clone()));
    // A filter that can't be understood is no filter: what it stands for is everything.
    let offered = Memo::new(move |_| selection.is_offered() && failed.with(Option::is_none));
    let selecting = Memo::new(move |_| offered.get() && selection.count() > 0);
    let empty = Memo::new(move |_| list.rows.with(Vec::is_empty));
    let body = move || {
        if let Some(problem) = failed.get() {
            return view! { <BadQuery problem /> }.into_any();
        }
        if !empty.get() {
            return view! { <Rows list count=count.into() /> }.into_any();
        }
        match list.problem.get() {
            Some(problem) => view! { <Failed list problem /> }.into_any(),
            None if list.outdated.get() => view! { <SkeletonRows /> }.into_any(),
            None if url.query.with(|q| q.is_active()) => view! { <NoMatch /> }.into_any(),
            None => view! { <NoJobs may_enqueue /> }.into_any(),
        }
    };
    view! {
        <div class="list-head" class:selecting=move || selecting.get()>
            {move || offered.get().then(|| view! { <SelectAll list /> })}
            <span class="list-count">
                {move || {
                    let (n, capped) = count.get();
                    count_label(n, capped, text::JOB.0, text::JOB.1)
                }}
                {move || {
                    let n = list.unsearched.get();
                    (n > 0).then(|| format!(" · {} too new to be searched yet", grouped(n)))
                }}
            </span>
            <SortControls />
        </div>
        {move || offered.get().then(|| view! { <BulkBar list count=count.into() /> })}
        <div
            class="list-scroll"
            class:outdated=move || list.outdated.get()
            node_ref=list.window.node
            on:scroll=move |_| list.window.scrolled()
        >
            {body}
        </div>
    }
}

#[component]
fn SortControls() -> impl IntoView {
    let url = JobsUrl::expect();
    let sort = Signal::derive(move || url.query.with(|q| q.filter.sort.as_str().to_string()));
    let order = Memo::new(move |_| url.query.with(|q| q.filter.order));
    let options: Vec<_> = Sort::ALL
        .iter()
        .map(|s| (s.as_str().to_string(), s.label().to_string()))
        .collect();
    let pick = Callback::new(move |name: String| {
        url.set_order(Sort::parse(&name).unwrap_or_default(), order.get_untracked());
    });
    let turn = move |_| {
        let next = match order.get_untracked() {
            Order::Asc => Order::Desc,
            Order::Desc => Order::Asc,
        };
        url.set_order(url.query.with_untracked(|q| q.filter.sort), next);
    };
    let words = move || match order.get() {
        Order::Asc => "Ascending",
        Order::Desc => "Descending",
    };
    view! {
        <span class="sort">
            <Choice label="Sort by" name="sort" options=Signal::stored(options) value=sort on_pick=pick />
            <button
                type="button"
                class="btn ghost icon small"
                aria-label=move || format!("Order: {}", words().to_lowercase())
                title=words
                on:click=turn
            >
                {move || match order.get() {
                    Order::Asc => view! { <Icon icon=icondata_lu::LuArrowUpNarrowWide /> },
                    Order::Desc => view! { <Icon icon=icondata_lu::LuArrowDownWideNarrow /> },
                }}
            </button>
        </span>
    }
}

/// The rows in view. Arrow keys move between them, j and k from anywhere on the page.
#[component]
fn Rows(list: ListState, count: Signal<(u64, bool)>) -> impl IntoView {
    let url = JobsUrl::expect();
    let selection = Selection::expect();
    let active = RwSignal::new(None::<JobId>);
    let range = Memo::new(move |_| list.window.range(list.rows.with(Vec::len)));
    let visible = move || {
        let (first, end) = range.get();
        list.rows.with(|rows| {
            rows.get(first..end.min(rows.len()))
                .map(<[Row]>::to_vec)
                .unwrap_or_default()
        })
    };
    let room = NodeRef::<Ul>::new();
    keep_style(room, "height", move || {
        format!("{}px", list.rows.with(Vec::len) as f64 * ROW)
    });
    keep_style(room, "padding-top", move || format!("{}px", range.get().0 as f64 * ROW));
    let set_size = Memo::new(move |_| match count.get() {
        (_, true) => "-1".to_string(),
        (n, false) => n.max(list.rows.with(Vec::len) as u64).to_string(),
    });
    let go = move |to: Move| {
        let here = active
            .get_untracked()
            .or_else(|| untrack(|| url.selected()))
            .and_then(|id| list.position(id));
        let last = list.rows.with_untracked(Vec::len).saturating_sub(1);
        let at = match (to, here) {
            (Move::Down, None) | (Move::First, _) => 0,
            (Move::Down, Some(at)) => (at + 1).min(last),
            (Move::Up, at) => at.unwrap_or(0).saturating_sub(1),
            (Move::Last, _) => last,
        };
        let Some(id) = list.rows.with_untracked(|rows| rows.get(at).map(|r| r.id)) else {
            return;
        };
        active.set(Some(id));
        list.window.reveal(at);
        // The row is in the page one frame after it came into view.
        browser::next_frame(move || {
            browser::next_frame(move || {
                browser::focus_id(&row_id(&id));
            });
        });
    };
    let key = move |ev: leptos::ev::KeyboardEvent| {
        if let Some(to) = Move::of_arrow(&ev.key()).filter(|_| !modified(&ev)) {
            ev.prevent_default();
            go(to);
        }
    };
    let listener = StoredValue::new(None::<Listener>);
    Effect::new(move |_| {
        listener.set_value(Some(browser::on_key(move |ev| {
            if modified(&ev) || browser::typing() || browser::dialog_open() {
                return;
            }
            match ev.key().as_str() {
                "j" => go(Move::Down),
                "k" => go(Move::Up),
                "x" => {
                    if let Some(id) = active.get_untracked().filter(|_| untrack(|| selection.is_offered())) {
                        selection.toggle(id, false);
                    }
                }
                "/" => {
                    ev.prevent_default();
                    browser::focus_selector("[role=search] input[type=search]");
                }
                _ => {}
            }
        })));
    });
    view! {
        <ul
            role="list"
            aria-label=text::JOBS
            class="rows"
            node_ref=room
            on:keydown=key
        >
            <ForEnumerate
                each=visible
                key=|row| row.id
                children=move |index, row| {
                    let id = row.id;
                    let name = row.job.with_untracked(|job| job_title(&job.kind, &id));
                    view! {
                        <li
                            class="row-item"
                            class:picked=move || selection.has(&id)
                            aria-setsize=move || set_size.get()
                            aria-posinset=move || (range.get().0 + index.get() + 1).to_string()
                            on:focusin=move |_| active.set(Some(id))
                        >
                            {move || selection.is_offered().then(|| view! { <PickRow id name=name.clone() /> })}
                            <JobRow row />
                        </li>
                    }
                }
            />
        </ul>
        {move || {
            list.problem
                .get()
                .map(|problem| {
                    view! {
                        <div class="rows-problem" role="alert">
                            <span>{problem.detail}</span>
                            <button type="button" class="btn small" on:click=move |_| list.refresh()>
                                {text::TRY_AGAIN}
                            </button>
                        </div>
                    }
                })
        }}
        {move || list.has_more().then(|| view! { <SkeletonRow /> })}
    }
}

/// The box that selects a row for an action on many. With Shift it selects all from the one before.
#[component]
fn PickRow(id: JobId, name: String) -> impl IntoView {
    let selection = Selection::expect();
    view! {
        <label class="pick">
            <input
                type="checkbox"
                aria-label=format!("Select {name}")
                prop:checked=move || selection.has(&id)
                on:click=move |ev| selection.toggle(id, ev.shift_key())
            />
        </label>
    }
}

#[derive(Clone, Copy)]
enum Move {
    Up,
    Down,
    First,
    Last,
}

impl Move {
    fn of_arrow(key: &str) -> Option<Self> {
        Some(match key {
            "ArrowUp" => Self::Up,
            "ArrowDown" => Self::Down,
            "Home" => Self::First,
            "End" => Self::Last,
            _ => return None,
        })
    }
}

fn modified(ev: &leptos::ev::KeyboardEvent) -> bool {
    ev.ctrl_key() || ev.meta_key() || ev.alt_key()
}
