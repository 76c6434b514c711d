//! The jobs that this one came from or waits for, and those that came from it or wait for it.

use leptos::prelude::*;

use super::job_title;
use super::section::Section;
use super::selected::Selected;
use crate::domain::job::{JobDetail, JobRef};
use crate::ui::components::StatusIcon;
use crate::ui::pages::jobs::JobsBase;

/// Each group with its name; empty ones are left out.
fn groups(detail: &JobDetail) -> Vec<(&'static str, Vec<JobRef>)> {
    let groups = [
        ("Parent", detail.parent.iter().cloned().collect()),
        ("Depends on", detail.depends_on.clone()),
        ("Children", detail.children.clone()),
        ("Waiting for this job", detail.dependents.clone()),
    ];
    groups.into_iter().filter(|(_, jobs)| !jobs.is_empty()).collect()
}

#[component]
pub fn Related(selected: Selected) -> impl IntoView {
    let groups = Memo::new(move |_| selected.detail.with(groups));
    move || {
        let groups = groups.get();
        (!groups.is_empty()).then(|| {
            view! {
                <Section title="Related jobs">
                    <dl class="related">
                        {groups
                            .into_iter()
                            .map(|(name, jobs)| {
                                view! {
                                    <dt>{name}</dt>
                                    <dd>
                                        <ul>
                                            {jobs
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
                            .collect_view()}
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
