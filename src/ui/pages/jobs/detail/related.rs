//! The jobs that this one came from, and those that came from it.

use leptos::prelude::*;

use super::job_title;
use super::section::Section;
use super::selected::Selected;
use crate::domain::job::JobRef;
use crate::ui::components::StatusIcon;
use crate::ui::pages::jobs::JobsBase;

#[component]
pub fn Related(selected: Selected) -> impl IntoView {
    let parent = Memo::new(move |_| selected.detail.with(|d| d.parent.clone()));
    let children = Memo::new(move |_| selected.detail.with(|d| d.children.clone()));
    let present = Memo::new(move |_| parent.with(Option::is_some) || children.with(|c| !c.is_empty()));
    move || {
        present.get().then(|| {
            view! {
                <Section title="Related jobs">
                    <dl class="related">
                        {move || {
                            parent
                                .get()
                                .map(|job| {
                                    view! {
                                        <dt>"Parent"</dt>
                                        <dd>
                                            <JobLink job=job />
                                        </dd>
                                    }
                                })
                        }}
                        {move || {
                            let children = children.get();
                            (!children.is_empty())
                                .then(|| {
                                    view! {
                                        <dt>"Children"</dt>
                                        <dd>
                                            <ul>
                                                {children
                                                    .into_iter()
                                                    .map(|job| {
                                                        view! {
                                                            <li>
                                                                <JobLink job=job />
                                                            </li>
                                                        }
                                                    })
                                                    .collect_view()}
                                            </ul>
                                        </dd>
                                    }
                                })
                        }}
                    </dl>
                </Section>
            }
        })
    }
}

#[component]
fn JobLink(job: JobRef) -> impl IntoView {
    let base = JobsBase::expect();
    let JobRef { id, kind, status } = job;
    view! {
        <a class="job-link" href=move || base.job_href(&id)>
            <StatusIcon status=Signal::derive(move || status) />
            {job_title(&kind, &id)}
            <span class="visually-hidden">{format!(", {}", status.label())}</span>
        </a>
    }
}
