//! The way from page to page.

use leptos::prelude::*;
use leptos_router::hooks::use_location;

use super::theme::ThemeSwitch;
use crate::domain::account::Me;
use crate::ui::components::Icon;
use crate::ui::components::mark::Mark;
use crate::ui::signed::Signed;
use crate::ui::text;

/// One entry: where it leads, which addresses are its own, how it looks, and who may see it.
struct Entry {
    href: &'static str,
    prefixes: &'static [&'static str],
    label: &'static str,
    icon: icondata_core::Icon,
    shown: fn(&Me) -> bool,
}

/// The pages, in the order in which they are listed. A new page adds its line here.
static ENTRIES: [Entry; 4] = [
    Entry {
        href: "/jobs",
        prefixes: &["/jobs", "/admin/jobs"],
        label: text::JOBS,
        icon: icondata_lu::LuBriefcase,
        shown: |_| true,
    },
    Entry {
        href: "/users",
        prefixes: &["/users"],
        label: text::USERS,
        icon: icondata_lu::LuUsers,
        shown: |me| me.may_manage_users,
    },
    Entry {
        href: "/audit-log",
        prefixes: &["/audit-log", "/admin/audit-logs"],
        label: text::AUDIT_LOG,
        icon: icondata_lu::LuScrollText,
        shown: |me| me.may_read_audit,
    },
    Entry {
        href: "/settings",
        prefixes: &["/settings"],
        label: text::SETTINGS,
        icon: icondata_lu::LuSettings,
        shown: |me| me.may_read_settings,
    },
];

/// At the left on a wide screen, icons only on a narrower one, at the bottom on a phone.
#[component]
pub fn Sidebar() -> impl IntoView {
    let signed = Signed::expect();
    let path = use_location().pathname;
    let entries = move || {
        Suspend::new(async move {
            let me = signed.me().await;
            ENTRIES
                .iter()
                .filter(|entry| me.as_ref().map_or(entry.href == "/jobs", entry.shown))
                .map(|entry| view! { <EntryLink entry path /> })
                .collect_view()
        })
    };
    let person = move || {
        Suspend::new(async move {
            let me = signed.me().await;
            me.map(|me| view! { <Person me path /> })
        })
    };
    view! {
        <header class="sidebar">
            <a class="brand" href="/jobs" aria-label=text::PRODUCT>
                <Mark />
                <span class="nav-label">{text::PRODUCT}</span>
            </a>
            <nav aria-label="Main">
                <ul role="list">
                    <Suspense>{entries}</Suspense>
                </ul>
            </nav>
            <div class="sidebar-foot">
                <ThemeSwitch />
                <Suspense>{person}</Suspense>
            </div>
        </header>
    }
}

#[component]
fn EntryLink(entry: &'static Entry, path: Memo<String>) -> impl IntoView {
    let here = Memo::new(move |_| path.with(|p| entry.prefixes.iter().any(|x| is_within(p, x))));
    view! {
        <li>
            <a href=entry.href title=entry.label aria-current=move || here.get().then_some("page")>
                <Icon icon=entry.icon />
                <span class="nav-label">{entry.label}</span>
            </a>
        </li>
    }
}

fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who is signed in: the way to their account, and out.
#[component]
fn Person(me: Me, path: Memo<String>) -> impl IntoView {
    let here = Memo::new(move |_| path.with(|p| is_within(p, "/account")));
    let name = if me.name.is_empty() { me.email.clone() } else { me.name };
    let whole = format!("{} · {}", me.email, me.role.label());
    view! {
        <a class="user" href="/account" title=whole aria-current=move || here.get().then_some("page")>
            <Icon icon=icondata_lu::LuCircleUser />
            <span class="nav-label">
                <span class="user-name">{name}</span>
                <span class="user-role">{me.role.label()}</span>
            </span>
        </a>
        <form class="sign-out" method="post" action="/session/end">
            <button type="submit" title=text::SIGN_OUT>
                <Icon icon=icondata_lu::LuLogOut />
                <span class="nav-label">{text::SIGN_OUT}</span>
            </button>
        </form>
    }
}
