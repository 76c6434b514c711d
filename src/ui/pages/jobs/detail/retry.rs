//! What a retry may be told: other args, and a time to wait.

use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::Value;

use super::actions::done;
use super::selected::Selected;
use crate::domain::job::ActOptions;
use crate::domain::secret::MASK;
use crate::domain::status::Action;
use crate::rpc::act;
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::components::json::pretty;
use crate::ui::components::toast::Toaster;
use crate::ui::signed::lead_to_sign_in;

/// What the person has changed about a retry so far. The question stays open until the server has taken it: what was typed is
/// not lost.
#[derive(Clone, Copy)]
pub struct Retry {
    selected: Selected,
    asked: RwSignal<Option<Ask>>,
    args: RwSignal<String>,
    delay: RwSignal<String>,
    /// The field that is at fault, `args` or `delay`, or none; and why.
    wrong: RwSignal<Option<(String, String)>>,
    busy: RwSignal<bool>,
    toaster: Toaster,
}

impl Retry {
    pub fn new(selected: Selected, asked: RwSignal<Option<Ask>>) -> Self {
        Self {
            selected,
            asked,
            args: RwSignal::new(String::new()),
            delay: RwSignal::new(String::new()),
            wrong: RwSignal::new(None),
            busy: RwSignal::new(false),
            toaster: Toaster::expect(),
        }
    }

    /// The question is about to be asked.
    pub fn begin(self) {
        self.args.set(self.selected.detail.with_untracked(|d| pretty(&d.args)));
        self.delay.set(String::new());
        self.wrong.set(None);
        self.busy.set(false);
    }

    pub fn agree(self) -> Answered {
        if self.busy.get_untracked() {
            return Answered::NotYet;
        }
        let was = self.selected.detail.with_untracked(|d| d.args.clone());
        match read(&self.args.get_untracked(), &self.delay.get_untracked(), &was) {
            Err(wrong) => self.wrong.set(Some(wrong)),
            Ok(options) => self.send(options),
        }
        Answered::NotYet
    }

    fn send(self, options: ActOptions) {
        self.busy.set(true);
        self.wrong.set(None);
        spawn_local(async move {
            let answer = act(self.selected.id, Action::Retry, options)
                .await
                .inspect_err(lead_to_sign_in);
            self.busy.try_set(false);
            match answer {
                Ok(job) => {
                    self.asked.try_set(None);
                    self.toaster.ok(done(Action::Retry));
                    self.selected.take(job);
                    self.selected.refetch();
                }
                Err(problem) => {
                    let field = problem.field.unwrap_or_default();
                    self.wrong.try_set(Some((field, problem.detail)));
                }
            }
        });
    }

    /// Why a field can't be taken. What is wrong with a part of the args is said at the args, and the rest at the end.
    fn why(self, field: &'static str) -> Signal<String> {
        Signal::derive(move || {
            let wrong = self.wrong.get();
            let here = wrong.filter(|(at, _)| place(at) == field);
            here.map(|(_, why)| why).unwrap_or_default()
        })
    }
}

fn place(field: &str) -> &'static str {
    match field.split(['.', '[']).next() {
        Some("args") => "args",
        Some("delay") => "delay",
        _ => "",
    }
}

/// What the person asks for, or which field is wrong and why. Args that mean what they meant before are left as they are.
fn read(args: &str, delay: &str, was: &Value) -> Result<ActOptions, (String, String)> {
    let args: Value =
        serde_json::from_str(args).map_err(|e| ("args".to_string(), format!("This is not JSON: {e}.")))?;
    let delay = match delay.trim() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            let why = "This must be a whole number of seconds.";
            ("delay".to_string(), why.to_string())
        })?),
    };
    Ok(ActOptions {
        delay,
        args: (args != *was).then_some(args),
        ..ActOptions::default()
    })
}

/// The controls in the question.
#[component]
pub fn RetryOptions(retry: Retry) -> impl IntoView {
    let (args_why, delay_why, why) = (retry.why("args"), retry.why("delay"), retry.why(""));
    let invalid = |why: Signal<String>| move || why.with(|w| !w.is_empty()).then_some("true");
    view! {
        <details class="ask-more" open=move || args_why.with(|w| !w.is_empty()) || delay_why.with(|w| !w.is_empty())>
            <summary>"Change args or wait first"</summary>
            <div class="field">
                <label for="retry-args">"Input args"</label>
                <textarea
                    id="retry-args"
                    class="code"
                    rows="6"
                    spellcheck="false"
                    aria-invalid=invalid(args_why)
                    aria-describedby="retry-args-why"
                    prop:value=move || retry.args.get()
                    on:input=move |ev| retry.args.set(event_target_value(&ev))
                ></textarea>
                {move || {
                    let masked = retry.args.with(|args| args.contains(MASK));
                    masked
                        .then(|| view! { <p class="hint">{format!("{MASK} stands for a secret: left as it is, it stays.")}</p> })
                }}
                <p id="retry-args-why" class="field-error" role="alert">
                    {args_why}
                </p>
            </div>
            <div class="field">
                <label for="retry-delay">"Delay in seconds"</label>
                <input
                    id="retry-delay"
                    type="number"
                    min="0"
                    step="1"
                    placeholder="0"
                    aria-invalid=invalid(delay_why)
                    aria-describedby="retry-delay-why"
                    prop:value=move || retry.delay.get()
                    on:input=move |ev| retry.delay.set(event_target_value(&ev))
                />
                <p id="retry-delay-why" class="field-error" role="alert">
                    {delay_why}
                </p>
            </div>
        </details>
        <p class="field-error ask-why" role="alert">
            {why}
        </p>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_changed_is_sent() {
        let was = json!({ "a": 1, "b": [true] });
        let same = read("{\"b\": [true], \"a\": 1}", " ", &was);
        assert_eq!(same, Ok(ActOptions::default()));
        let other = read("{\"a\": 2}", "60", &was).expect("taken");
        assert_eq!((other.delay, other.args), (Some(60), Some(json!({ "a": 2 }))));
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let field = |args: &str, delay: &str| read(args, delay, &json!({})).expect_err("wrong").0;
        assert_eq!((field("{", ""), field("{}", "soon")), ("args".into(), "delay".into()));
        assert_eq!(
            (place("args.rows[2]"), place("delay"), place("type")),
            ("args", "delay", "")
        );
    }
}
