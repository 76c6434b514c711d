//! The files that the job left behind.

use leptos::prelude::*;

use super::selected::Selected;
use crate::domain::job::{Artifact, JobId};
use crate::domain::page::bytes;
use crate::ui::components::{Icon, RelativeTime};

#[component]
pub fn Artifacts(selected: Selected) -> impl IntoView {
    let artifacts = Memo::new(move |_| selected.detail.with(|d| d.artifacts.clone()));
    let present = Memo::new(move |_| artifacts.with(|a| !a.is_empty()));
    move || {
        present.get().then(|| {
            view! {
                <section class="artifacts" aria-label="Artifacts">
                    <h3>"Artifacts"</h3>
                    <ul>
                        <For each=move || artifacts.get() key=|a: &Artifact| (a.name.clone(), a.sha256.clone()) let:artifact>
                            <File id=selected.id artifact=artifact />
                        </For>
                    </ul>
                </section>
            }
        })
    }
}

#[component]
fn File(id: JobId, artifact: Artifact) -> impl IntoView {
    let href = format!("/api/jobs/{id}/artifacts/{}", encode(&artifact.name));
    let label = format!("Download {}", artifact.name);
    let expires = artifact.expires_at;
    view! {
        <li class="artifact">
            <Icon icon=icondata_lu::LuFileDown />
            <span class="artifact-name" title=format!("SHA-256 {}", artifact.sha256)>
                {artifact.name.clone()}
            </span>
            <span class="artifact-facts">
                {bytes(artifact.size)} " · expires "
                <RelativeTime at=Signal::derive(move || Some(expires)) />
            </span>
            <a class="btn small" href=href download=artifact.name aria-label=label rel="external">
                <Icon icon=icondata_lu::LuDownload />
                "Download"
            </a>
        </li>
    }
}

/// A name as one segment of a path: all but unreserved characters percent-encoded (RFC 3986 §2.3).
fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(encode("events-2026.csv"), "events-2026.csv");
        assert_eq!(encode("a b/c?d#ü"), "a%20b%2Fc%3Fd%23%C3%BC");
    }
}
