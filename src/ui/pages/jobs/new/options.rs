//! The lower part of the form: what all kinds have in common.

use leptos::prelude::*;

use super::field::{self, Input, Label};
use super::form::{self, Form};
use crate::domain::job::Lane;
use crate::ui::components::Icon;

/// Queue, priority, time and key. Not for files: these start at once.
#[component]
pub fn MoreOptions(form: Form) -> impl IntoView {
    let file = Memo::new(move |_| form.takes_file());
    let open = Memo::new(move |before: Option<&bool>| {
        // An error in there must be seen.
        before == Some(&true)
            || form
                .errors
                .with(|e| e.keys().any(|k| form::OPTIONS.contains(&k.as_str())))
    });
    let label = |path: &str, title: &str, description: &str| Label {
        path: path.into(),
        title: title.into(),
        description: description.into(),
        required: false,
    };
    move || {
        (!file.get()).then(|| {
            let lanes = Lane::ALL
                .map(|l| (l.as_str().to_string(), l.label().to_string()))
                .to_vec();
            let text = Input {
                kind: "text",
                ..Input::default()
            };
            view! {
                <details class="more" prop:open=move || open.get()>
                    <summary>
                        <Icon icon=icondata_lu::LuChevronRight />
                        "More options"
                    </summary>
                    <div class="more-fields">
                        {field::input(
                            label(form::QUEUE, "Queue", ""),
                            form,
                            Input { placeholder: "default", max_length: Some(64), ..text },
                        )}
                        {field::select(label(form::PRIORITY, "Priority", ""), form, lanes)}
                        {field::input(
                            label(form::DELAY, "Delay", "Seconds to wait before the job may start."),
                            form,
                            Input { kind: "number", step: "1", min: Some(0), ..text },
                        )}
                        {field::input(
                            label(form::RUN_AT, "Run at", "In UTC. Not together with a delay."),
                            form,
                            Input { kind: "datetime-local", step: "1", ..text },
                        )}
                        {field::input(
                            label(
                                form::UNIQUE_KEY,
                                "Unique key",
                                "While a job with this key is unfinished, starting another one leads to that job.",
                            ),
                            form,
                            Input { max_length: Some(200), ..text },
                        )}
                        {field::input(
                            label(
                                form::TIMEOUT,
                                "Time limit",
                                "Seconds that an attempt may take, instead of what its type says; at most 72 hours.",
                            ),
                            form,
                            Input { kind: "number", step: "1", min: Some(1), ..text },
                        )}
                    </div>
                </details>
            }
        })
    }
}

/// How much of the file has been sent.
#[component]
pub fn Sent(form: Form) -> impl IntoView {
    let sending = Memo::new(move |_| form.sent.with(Option::is_some));
    let part = move || form.sent.get().unwrap_or_default();
    move || {
        sending.get().then(|| {
            view! {
                <div class="sent" role="status">
                    <progress max="1" value=part aria-label="Upload"></progress>
                    <span>
                        {move || match (part() * 100.0).floor() {
                            100.0 => "Sent; the server is checking the file…".to_string(),
                            percent => format!("Uploading… {percent}%"),
                        }}
                    </span>
                </div>
            }
        })
    }
}
