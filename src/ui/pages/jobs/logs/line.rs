//! One line of a log: short in the list, whole below it.

use leptos::prelude::*;

use super::ansi;
use crate::domain::log::{Level, LogLine};
use crate::domain::time::{clock, exact_millis};
use crate::ui::components::{CopyButton, Icon};

/// A line in the list, of fixed height; what does not fit is cut. A click opens it.
#[component]
pub fn LineRow(line: LogLine, open: RwSignal<Option<u64>>) -> impl IntoView {
    let n = line.n;
    let first = one_line(&line.message);
    view! {
        <div
            class="log-line"
            class:open=move || open.get() == Some(n)
            on:click=move |_| open.update(|o| *o = if *o == Some(n) { None } else { Some(n) })
        >
            <time datetime=line.at.to_rfc3339()>{clock(line.at)}</time>
            <LevelBadge level=line.level />
            <span class="log-message">{coloured(&first)}</span>
        </div>
    }
}

/// The whole of one line, wrapped.
#[component]
pub fn LinePanel(line: LogLine, on_close: Callback<()>) -> impl IntoView {
    let plain = ansi::plain(&line.message).into_owned();
    let facts = format!("Line {} · {} · attempt {}", line.n, exact_millis(line.at), line.attempt);
    view! {
        <div class="log-panel" role="group" aria-label="Log line">
            <div class="log-panel-head">
                <LevelBadge level=line.level />
                <span class="log-panel-facts">{facts}</span>
                <CopyButton text=plain label="Copy log line" />
                <button
                    type="button"
                    class="btn ghost icon small"
                    aria-label="Close log line"
                    on:click=move |_| on_close.run(())
                >
                    <Icon icon=icondata_lu::LuX />
                </button>
            </div>
            <pre tabindex="0">{coloured(&line.message)}</pre>
        </div>
    }
}

#[component]
fn LevelBadge(level: Level) -> impl IntoView {
    view! { <span class=format!("level {}", level.as_str())>{level.label()}</span> }
}

fn coloured(text: &str) -> AnyView {
    ansi::spans(text)
        .into_iter()
        .map(|span| {
            if span.class.is_empty() {
                span.text.into_any()
            } else {
                view! { <span class=span.class>{span.text}</span> }.into_any()
            }
        })
        .collect_view()
        .into_any()
}

/// As much of `text` as a row can show, with its line breaks marked.
fn one_line(text: &str) -> String {
    const ENOUGH: usize = 400;
    let mut out: String = text
        .chars()
        .take(ENOUGH)
        .map(|c| if c == '\n' { '↵' } else { c })
        .collect();
    if out.len() < text.len() && text.chars().nth(ENOUGH).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn rows_are_short_and_of_one_line() {
        assert_eq!(one_line("a\nb"), "a↵b");
        let long = one_line(&"ä".repeat(1_000));
        assert_eq!(long.chars().count(), 401);
        assert!(long.ends_with('…'));
    }
}
