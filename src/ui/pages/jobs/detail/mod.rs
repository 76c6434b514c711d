//! One job: what it is, how it fares, what it left behind, and what can be done with it.

mod actions;
mod artifacts;
mod error;
mod header;
mod metadata;
mod payload;
mod related;
mod retry;
mod section;
mod selected;
mod timeline;

use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_params_map;
use leptos_router::{LazyRoute, lazy_route};

use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::{Job, JobDetail, JobId, short_id};
use crate::domain::kind::label;
use crate::domain::live::LiveEvent;
use crate::rpc::job_detail;
use crate::ui::components::Icon;
use crate::ui::components::empty::Empty;
use crate::ui::live::Live;
use crate::ui::pages::jobs::JobsBase;
use crate::ui::pages::jobs::logs::JobLogs;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;
use selected::Selected;

/// "Export #a1b2c3": how people call a job.
pub fn job_title(kind: &str, id: &JobId) -> String {
    format!("{} #{}", label(kind), short_id(id))
}

/// The right side of the page: the job that the address names, in a part of its own, with what it asks the server for.
pub struct JobDetailRoute;

#[lazy_route]
impl LazyRoute for JobDetailRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        JobDetailPanel().into_any()
    }
}

#[component]
fn JobDetailPanel() -> impl IntoView {
    let params = use_params_map();
    // An address that is no id names a job that can't exist: the server answers as for any other that does not.
    let id = Memo::new(move |_| {
        params.with(|p| {
            p.get("id")
                .and_then(|text| text.parse::<JobId>().ok())
                .unwrap_or_default()
        })
    });

    // Listens before the first fetch, so that no change falls between the two.
    let news = RwSignal::new(None::<Job>);
    Live::expect().subscribe(move |event| {
        if let LiveEvent::Jobs(jobs) = event
            && let Some(wanted) = id.try_get_untracked()
            && let Some(job) = jobs.iter().find(|j| j.id == wanted)
        {
            news.try_update(|known| {
                if known.as_ref().is_none_or(|k| k.id != job.id || k.rev < job.rev) {
                    *known = Some(job.clone());
                }
            });
        }
    });
    let detail = Resource::new(
        move || id.get(),
        async |id| job_detail(id).await.inspect_err(lead_to_sign_in),
    );
    view! {
        <section class="detail" aria-label="Job details">
            <Transition fallback=Skeleton>
                {move || {
                    detail
                        .get()
                        .map(|answer| match answer {
                            Ok(found) => view! { <Loaded found=found news=news /> }.into_any(),
                            Err(problem) => {
                                view! {
                                    <Refused
                                        problem=problem
                                        again=Callback::new(move |()| detail.refetch())
                                    />
                                }
                                    .into_any()
                            }
                        })
                }}
            </Transition>
        </section>
    }
}

/// The job, once it is known.
#[component]
fn Loaded(found: JobDetail, news: RwSignal<Option<Job>>) -> impl IntoView {
    let title = job_title(&found.job.kind, &found.job.id);
    let selected = Selected::new(found, news);
    let job = selected.job;
    move || {
        if selected.gone.get() {
            return view! { <Gone /> }.into_any();
        }
        view! {
            <Title text=title.clone() />
            <BackToList />
            <header::Header selected=selected title=title.clone() />
            <error::ErrorBox selected=selected />
            <artifacts::Artifacts selected=selected />
            <metadata::Metadata job=job selected=selected />
            <JobLogs job=job />
            <payload::ResultJson selected=selected />
            <payload::ArgsJson selected=selected />
            <timeline::Timeline selected=selected />
            <related::Related selected=selected />
        }
        .into_any()
    }
}

/// The way back from a job to the list, where the two are not side by side.
#[component]
fn BackToList() -> impl IntoView {
    let base = JobsBase::expect();
    view! {
        <a class="btn ghost small detail-back" href=move || base.list_href()>
            <Icon icon=icondata_lu::LuArrowLeft />
            "Back to jobs"
        </a>
    }
}

/// The job was deleted while it was looked at.
#[component]
fn Gone() -> impl IntoView {
    view! {
        <Empty
            icon=icondata_lu::LuTrash2
            title="This job has been deleted"
            text="Its record, its log and its files are gone for good."
        >
            <ListLink />
        </Empty>
    }
}

/// The job can't be shown.
#[component]
fn Refused(problem: Problem, again: Callback<()>) -> impl IntoView {
    match problem.code {
        ProblemCode::NotFound | ProblemCode::InvalidInput => view! {
            <Title text="Not found" />
            <Empty
                icon=icondata_lu::LuSearchX
                title="This job does not exist"
                text="It may have been deleted, by a person or after its time was over, or the address is not complete."
            >
                <ListLink />
            </Empty>
        }
        .into_any(),
        ProblemCode::Forbidden => view! {
            <Title text="Not allowed" />
            <Empty icon=icondata_lu::LuBan title="This job is not yours to see" text=problem.detail>
                <ListLink />
            </Empty>
        }
        .into_any(),
        _ => view! {
            <Empty icon=icondata_lu::LuCircleAlert title="The job can't be loaded" text=problem.detail>
                <button type="button" class="btn primary" on:click=move |_| again.run(())>
                    {text::TRY_AGAIN}
                </button>
            </Empty>
        }
        .into_any(),
    }
}

#[component]
fn ListLink() -> impl IntoView {
    let base = JobsBase::expect();
    view! {
        <a class="btn" href=move || base.list_href()>
            "Back to jobs"
        </a>
    }
}

/// The shape of a job before it is known.
#[component]
fn Skeleton() -> impl IntoView {
    view! {
        <div class="detail-skeleton" role="status">
            <span class="visually-hidden">"Loading the job"</span>
            <div class="skeleton wide"></div>
            <div class="skeleton"></div>
            <div class="skeleton block"></div>
            <div class="skeleton block tall"></div>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_name_the_kind_and_the_id() {
        let id = JobId::from_u128(0xa1b2c3);
        assert_eq!(job_title("batch_audit", &id), "Batch audit #a1b2c3");
    }
}
