//! Short notices that report what an action did.

use std::time::Duration;

use leptos::prelude::*;

use super::Icon;
use crate::domain::error::Problem;

/// How long a notice of success stays. Errors stay until they are dismissed.
const STAY: Duration = Duration::from_secs(6);

/// Notices on the screen at the same time; older ones give way.
const MOST: usize = 4;

#[derive(Clone, PartialEq)]
struct Toast {
    id: u32,
    error: bool,
    title: String,
    detail: String,
}

/// Shows notices. One per page, provided by the app; [`Toasts`] draws them.
#[derive(Clone, Copy)]
pub struct Toaster {
    toasts: RwSignal<Vec<Toast>>,
    next: StoredValue<u32>,
}

impl Toaster {
    /// Makes the toaster and provides it to all components below the caller. Called once, by the app.
    pub fn provide() -> Self {
        let toaster = Self {
            toasts: RwSignal::new(Vec::new()),
            next: StoredValue::new(0),
        };
        provide_context(toaster);
        toaster
    }

    /// The app's toaster; outside the app one that nobody sees.
    pub fn expect() -> Self {
        use_context().unwrap_or_else(Self::provide)
    }

    /// Says that something worked.
    pub fn ok(&self, text: impl Into<String>) {
        let id = self.push(false, text.into(), String::new());
        let toaster = *self;
        set_timeout(move || toaster.dismiss(id), STAY);
    }

    /// Says what was refused and why.
    pub fn error(&self, problem: &Problem) {
        self.push(true, problem.title.clone(), problem.detail.clone());
    }

    fn push(&self, error: bool, title: String, detail: String) -> u32 {
        let id = self.next.try_update_value(|n| {
            *n += 1;
            *n
        });
        let id = id.unwrap_or_default();
        self.toasts.try_update(|list| {
            // The same complaint twice says nothing new.
            list.retain(|t| !(t.title == title && t.detail == detail));
            list.push(Toast {
                id,
                error,
                title,
                detail,
            });
            let surplus = list.len().saturating_sub(MOST);
            list.drain(..surplus);
        });
        id
    }

    fn dismiss(&self, id: u32) {
        self.toasts.try_update(|list| list.retain(|t| t.id != id));
    }
}

/// The place where notices appear. Each is read out as it comes, by its role.
#[component]
pub fn Toasts() -> impl IntoView {
    let toaster = Toaster::expect();
    view! {
        <div class="toasts">
            <For each=move || toaster.toasts.get() key=|t| t.id let:toast>
                <div
                    class="toast"
                    class:error=toast.error
                    role=if toast.error { "alert" } else { "status" }
                >
                    <span class="toast-icon">
                        <Icon icon=if toast.error { icondata_lu::LuCircleAlert } else { icondata_lu::LuCircleCheck } />
                    </span>
                    <div class="toast-text">
                        <strong>{toast.title.clone()}</strong>
                        {(!toast.detail.is_empty()).then(|| view! { <span>{toast.detail.clone()}</span> })}
                    </div>
                    <button
                        type="button"
                        class="btn ghost icon small"
                        aria-label="Dismiss"
                        on:click=move |_| toaster.dismiss(toast.id)
                    >
                        <Icon icon=icondata_lu::LuX />
                    </button>
                </div>
            </For>
        </div>
    }
}
