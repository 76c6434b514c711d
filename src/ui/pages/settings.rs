//! What the server was started with.

use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::{LazyRoute, lazy_route};

use crate::domain::page::count_label;
use crate::domain::setting::Setting;
use crate::rpc;
use crate::ui::components::empty::Empty;
use crate::ui::components::entries_skeleton::EntriesSkeleton;
use crate::ui::components::inputs::Line;
use crate::ui::components::refused::Refused;
use crate::ui::layout::page_header::PageHeader;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;

/// The page, in a part of its own, with what it asks the server for.
pub struct SettingsRoute;

#[lazy_route]
impl LazyRoute for SettingsRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        SettingsPage().into_any()
    }
}

#[component]
fn SettingsPage() -> impl IntoView {
    let settings = Resource::new(|| (), async |()| rpc::settings().await.inspect_err(lead_to_sign_in));
    let body = move || {
        settings.get().map(|answer| match answer {
            Ok(list) => view! { <Loaded list /> }.into_any(),
            Err(problem) => {
                let again = Callback::new(move |()| settings.refetch());
                view! { <Refused problem title="The settings can't be loaded" again /> }.into_any()
            }
        })
    };
    view! {
        <Title text=text::SETTINGS />
        <div class="page">
            <PageHeader icon=icondata_lu::LuSettings title=text::SETTINGS description=text::SETTINGS_DESCRIPTION />
            <Transition fallback=|| view! { <EntriesSkeleton label="Loading settings" rows=8 /> }>{body}</Transition>
        </div>
    }
}

#[component]
fn Loaded(list: Vec<Setting>) -> impl IntoView {
    let list = StoredValue::new(list);
    let (words, given) = (RwSignal::new(String::new()), RwSignal::new(false));
    let shown = Memo::new(move |_| {
        let (words, given) = (words.get(), given.get());
        let fits = |s: &&Setting| s.matches(&words) && (!given || s.is_given());
        list.with_value(|list| list.iter().filter(fits).cloned().collect::<Vec<_>>())
    });
    let count = move || count_label(shown.with(Vec::len) as u64, false, "setting", "settings");
    let clear = move || {
        words.set(String::new());
        given.set(false);
    };
    view! {
        <p class="entry-facts">{text::SETTINGS_CHANGE}</p>
        <form class="filters" role="search" aria-label=text::SETTINGS on:submit=|ev| ev.prevent_default()>
            <span class="filter-line">
                <Line
                    label="Search settings"
                    name="q"
                    kind="search"
                    max=100
                    value=words
                    on_text=Callback::new(move |text| words.set(text))
                    on_escape=Callback::new(move |()| clear())
                />
            </span>
            <label class="check">
                <input type="checkbox" prop:checked=given on:change=move |ev| given.set(event_target_checked(&ev)) />
                "Only those that were given"
            </label>
        </form>
        <p class="part-count" role="status">{count}</p>
        {move || {
            if shown.with(Vec::is_empty) {
                return view! {
                    <Empty
                        icon=icondata_lu::LuSearchX
                        title="No settings match"
                        text="None has these words in its name, its value or what it is for."
                    >
                        <button type="button" class="btn" on:click=move |_| clear()>
                            {text::CLEAR_ALL}
                        </button>
                    </Empty>
                }
                    .into_any();
            }
            view! {
                <ul class="entries" role="list" aria-label=text::SETTINGS>
                    <For each=move || shown.get() key=|setting| setting.name.clone() let:setting>
                        <Row setting />
                    </For>
                </ul>
            }
                .into_any()
        }}
    }
}

#[component]
fn Row(setting: Setting) -> impl IntoView {
    let changed = setting.is_given() && !setting.secret && setting.value != setting.default;
    let usual = setting.default.clone().filter(|_| changed).map(|default| {
        let default = if default.is_empty() { "not set".into() } else { default };
        view! { <span>"Default: " <code>{default}</code></span> }
    });
    let value = match setting.value.clone().filter(|value| !value.is_empty()) {
        Some(value) => view! { <code class="setting-value">{value}</code> }.into_any(),
        None if setting.secret && setting.is_given() => view! { <span class="pill">"Secret, set"</span> }.into_any(),
        None => view! { <span class="setting-none">"Not set"</span> }.into_any(),
    };
    view! {
        <li class="entry setting">
            <div class="entry-main">
                <span class="entry-title">
                    <code>{setting.name.clone()}</code>
                    {setting.is_given().then(|| view! { <span class="pill">{setting.origin.label()}</span> })}
                </span>
                <span class="entry-facts">
                    <span>{setting.about.clone()}</span>
                    {usual}
                </span>
            </div>
            {value}
        </li>
    }
}
