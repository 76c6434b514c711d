//! JSON as people read it: indented, its parts told apart by colour, never as markup.

use leptos::prelude::*;
use serde_json::Value;

/// A text longer than this many bytes is shown in one colour: thousands of spans cost more than they tell.
const COLOURED_MAX: usize = 24_000;

/// A text longer than this many bytes is cut on the screen; copying gives the whole.
const SHOWN_MAX: usize = 200_000;

/// Shows `value` indented. `label` is the block's accessible name.
#[component]
pub fn JsonView(#[prop(into)] value: Signal<Value>, label: &'static str) -> impl IntoView {
    view! {
        <pre class="json" tabindex="0" role="group" aria-label=label>
            {move || value.with(|v| render(&pretty(v)))}
        </pre>
    }
}

/// The indented text of `value`.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn render(text: &str) -> AnyView {
    if text.len() > SHOWN_MAX {
        let mut shown = text.to_string();
        crate::domain::error::truncate(&mut shown, SHOWN_MAX);
        return view! { <code>{shown}</code> }.into_any();
    }
    if text.len() > COLOURED_MAX {
        return view! { <code>{text.to_string()}</code> }.into_any();
    }
    let spans = tokens(text)
        .into_iter()
        .map(|(class, part)| match class {
            "" => part.to_string().into_any(),
            _ => view! { <span class=class>{part.to_string()}</span> }.into_any(),
        })
        .collect_view();
    view! { <code>{spans}</code> }.into_any()
}

/// Cuts well-formed JSON text into parts with their classes: keys, strings, numbers, words, and the rest ("").
fn tokens(text: &str) -> Vec<(&'static str, &str)> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let (mut at, mut plain) = (0, 0);
    while at < bytes.len() {
        let (class, end) = match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                (
                    if bytes.get(end) == Some(&b':') {
                        "j-key"
                    } else {
                        "j-str"
                    },
                    end,
                )
            }
            b'-' | b'0'..=b'9' => (
                "j-num",
                run_end(bytes, at, |b| b.is_ascii_digit() || b"+-.eE".contains(&b)),
            ),
            b'a'..=b'z' => ("j-word", run_end(bytes, at, |b| b.is_ascii_lowercase())),
            _ => {
                at += 1;
                continue;
            }
        };
        if plain < at {
            parts.push(("", &text[plain..at]));
        }
        parts.push((class, &text[at..end]));
        at = end;
        plain = end;
    }
    if plain < text.len() {
        parts.push(("", &text[plain..]));
    }
    parts
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn run_end(bytes: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[start..]
        .iter()
        .position(|b| !belongs(*b))
        .map_or(bytes.len(), |n| start + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_classes_and_lose_nothing() {
        let value = serde_json::json!({"a\"b": [1, -2.5e3, true, null], "ü": "x: \"y\" </script>"});
        let text = pretty(&value);
        let parts = tokens(&text);
        assert_eq!(parts.iter().map(|(_, p)| *p).collect::<String>(), text);
        let of = |class| {
            parts
                .iter()
                .filter(|(c, _)| *c == class)
                .map(|(_, p)| *p)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("j-key"), [r#""a\"b""#, r#""ü""#]);
        assert_eq!(of("j-str"), [r#""x: \"y\" </script>""#]);
        assert_eq!(of("j-num"), ["1", "-2500.0"]);
        assert_eq!(of("j-word"), ["true", "null"]);
    }
}
