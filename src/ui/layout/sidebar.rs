//! The way from page to page.

use leptos::prelude::*;
use leptos_router::hooks::use_location;

use super::theme::ThemeSwitch;
use crate::domain::user::Actor;
use crate::ui::components::Icon;
use crate::ui::text;

/// One entry: where it leads, which addresses are its own, and how it looks.
struct Entry {
    href: &'static str,
    prefixes: &'static [&'static str],
    label: &'static str,
    icon: icondata_core::Icon,
}

/// The pages, in the order in which they are listed. A new page adds its line here.
static ENTRIES: [Entry; 1] = [Entry {
    href: "/jobs",
    prefixes: &["/jobs", "/admin/jobs"],
    label: text::JOBS,
    icon: icondata_lu::LuBriefcase,
}];

/// At the left on a wide screen, icons only on a narrower one, at the bottom on a phone.
#[component]
pub fn Sidebar() -> impl IntoView {
    let path = use_location().pathname;
    let entries = ENTRIES
        .iter()
        .map(|entry| {
            let here = Memo::new(move |_| {
                path.with(|p| {
                    entry
                        .prefixes
                        .iter()
                        .any(|x| p == x || p.strip_prefix(x).is_some_and(|r| r.starts_with('/')))
                })
            });
            view! {
                <li>
                    <a href=entry.href title=entry.label aria-current=move || here.get().then_some("page")>
                        <Icon icon=entry.icon />
                        <span class="nav-label">{entry.label}</span>
                    </a>
                </li>
            }
        })
        .collect_view();
    let user = Actor::local_admin();
    view! {
        <header class="sidebar">
            <a class="brand" href="/jobs" aria-label=text::PRODUCT>
                <svg viewBox="0 0 24 24" width="22" height="22" fill="none" aria-hidden="true">
                    <circle cx="12" cy="12" r="8.5" stroke="currentColor" stroke-width="2" />
                    <path
                        d="M12 12 12 3.5M12 12 4.6 16.25M12 12 19.4 16.25"
                        stroke="currentColor"
                        stroke-width="2"
                        stroke-linecap="round"
                    />
                    <circle cx="12" cy="12" r="2.6" fill="currentColor" />
                </svg>
                <span class="nav-label">{text::PRODUCT}</span>
            </a>
            <nav aria-label="Main">
                <ul role="list">{entries}</ul>
            </nav>
            <div class="sidebar-foot">
                <ThemeSwitch />
                <div class="user" title=format!("{} · {} · local", user.name, user.role.label())>
                    <Icon icon=icondata_lu::LuUser />
                    <span class="nav-label">
                        <span class="user-name">{user.name.clone()}</span>
                        <span class="user-role">"Local"</span>
                    </span>
                </div>
            </div>
        </header>
    }
}
