//! Dialogs, as the browser's own `<dialog>` gives them: focus stays inside and returns, Escape closes.

use std::sync::Arc;

use leptos::html;
use leptos::prelude::*;
use leptos::wasm_bindgen::JsCast;
use leptos::web_sys;

use super::Icon;

/// A question that must be answered before something happens.
#[derive(Clone)]
pub struct Ask {
    pub title: String,
    /// What will happen.
    pub text: String,
    /// What may go wrong, set apart.
    pub warning: Option<String>,
    /// The words on the button that does it, "Delete job".
    pub confirm: String,
    /// The words on the button that leaves things as they are, "Keep job".
    pub keep: String,
    /// That button's class: "danger", "amber", "blue".
    pub tone: &'static str,
    /// What else can be said, between the text and the buttons.
    pub more: Option<Arc<dyn Fn() -> AnyView + Send + Sync>>,
    /// Called when the person agrees. The dialog closes unless it says that the question is still open.
    pub then: Arc<dyn Fn() -> Answered + Send + Sync>,
}

/// Whether a question that the person agreed to is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Yes,
    /// Something is to be put right first, or to be waited for.
    NotYet,
}

/// Asks whatever is put into `ask` and empties it when the question is answered. `id` is unique on the page.
#[component]
pub fn ConfirmDialog(id: &'static str, ask: RwSignal<Option<Ask>>) -> impl IntoView {
    let node = NodeRef::<html::Dialog>::new();
    follow(node, Signal::derive(move || ask.with(Option::is_some)));
    let agree = move |_| {
        let Some(question) = ask.get_untracked() else { return };
        if (question.then)() == Answered::NotYet {
            return;
        }
        if let Some(dialog) = node.get_untracked() {
            dialog.close();
        }
    };
    view! {
        <dialog
            node_ref=node
            class="dialog confirm"
            role="alertdialog"
            aria-labelledby=format!("{id}-title")
            aria-describedby=format!("{id}-text")
            on:close=move |_| ask.set(None)
            on:click=move |ev| close_on_backdrop(node, &ev)
        >
            <div class="dialog-box">
                {move || {
                    ask.get()
                        .map(|question| {
                            view! {
                                <h2 id=format!("{id}-title")>{question.title}</h2>
                                <div id=format!("{id}-text") class="confirm-text">
                                    <p>{question.text}</p>
                                    {question
                                        .warning
                                        .map(|warning| {
                                            view! {
                                                <p class="confirm-warning">
                                                    <Icon icon=icondata_lu::LuTriangleAlert />
                                                    <span><strong>"WARNING: "</strong>{warning}</span>
                                                </p>
                                            }
                                        })}
                                </div>
                                {question.more.map(|more| more())}
                                <div class="dialog-actions">
                                    // The safe answer has the focus: Enter alone destroys nothing.
                                    <button
                                        type="button"
                                        class="btn"
                                        data-focus=""
                                        on:click=move |_| {
                                            if let Some(dialog) = node.get_untracked() {
                                                dialog.close();
                                            }
                                        }
                                    >
                                        {question.keep}
                                    </button>
                                    <button type="button" class=format!("btn {}", question.tone) on:click=agree>
                                        {question.confirm}
                                    </button>
                                </div>
                            }
                        })
                }}
            </div>
        </dialog>
    }
}

/// A dialog with a title and a close button; its content lives only while it is open. The focus goes to the element in
/// it that has the attribute `data-focus`, else to the first that can have it. `id` is unique on the page.
#[component]
pub fn Dialog(
    id: &'static str,
    title: &'static str,
    open: RwSignal<bool>,
    /// Further classes, such as "wide".
    #[prop(optional)]
    class: &'static str,
    children: ChildrenFn,
) -> impl IntoView {
    let node = NodeRef::<html::Dialog>::new();
    follow(node, open.into());
    let children = StoredValue::new(children);
    view! {
        <dialog
            node_ref=node
            class=format!("dialog {class}")
            aria-labelledby=format!("{id}-title")
            on:close=move |_| open.set(false)
        >
            <div class="dialog-box">
                <header class="dialog-head">
                    <h2 id=format!("{id}-title")>{title}</h2>
                    <button
                        type="button"
                        class="btn ghost icon small"
                        aria-label="Close"
                        on:click=move |_| open.set(false)
                    >
                        <Icon icon=icondata_lu::LuX />
                    </button>
                </header>
                <div class="dialog-content">{move || open.get().then(|| children.with_value(|c| c()))}</div>
            </div>
        </dialog>
    }
}

/// Opens and closes the element as `open` says.
fn follow(node: NodeRef<html::Dialog>, open: Signal<bool>) {
    Effect::new(move |_| {
        let wanted = open.get();
        let Some(dialog) = node.get() else { return };
        if wanted && !dialog.open() {
            // One frame later the content is there, and with it the element that wants the focus.
            request_animation_frame(move || {
                if open.try_get_untracked() != Some(true) {
                    return;
                }
                if dialog.show_modal().is_err() {
                    leptos::logging::warn!("the dialog can't be shown");
                    return;
                }
                // Not the attribute autofocus, which would be about the whole page.
                let first = dialog.query_selector("[data-focus]").ok().flatten();
                if let Some(first) = first.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
                    let _ = first.focus();
                }
            });
        } else if !wanted && dialog.open() {
            dialog.close();
        }
    });
}

/// A click on the backdrop arrives at the dialog itself; one inside arrives at its content.
fn close_on_backdrop(node: NodeRef<html::Dialog>, ev: &web_sys::MouseEvent) {
    let Some(dialog) = node.get_untracked() else { return };
    let target = ev.target().and_then(|t| t.dyn_into::<web_sys::Node>().ok());
    if dialog.is_same_node(target.as_ref()) {
        dialog.close();
    }
}
