//! The state of the job on the screen: what was fetched, kept true by the live stream.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::domain::error::ProblemCode;
use crate::domain::job::{Job, JobDetail, JobId};
use crate::domain::live::LiveEvent;
use crate::rpc::job_detail;
use crate::ui::live::Live;
use crate::ui::signed::lead_to_sign_in;

/// One job, as all parts of the panel see it.
#[derive(Clone, Copy)]
pub struct Selected {
    pub id: JobId,
    /// As it was last fetched.
    pub detail: RwSignal<JobDetail>,
    /// The newest that is known of the job itself.
    pub job: Signal<Job>,
    /// The job was deleted.
    pub gone: RwSignal<bool>,
    news: RwSignal<Option<Job>>,
    fetching: StoredValue<Fetching>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fetching {
    No,
    Yes,
    /// Something changed while a fetch was under way: its answer may be too old.
    YesAndAgain,
}

/// What must be fetched anew when it differs: the parts of a job that attempts, actions, results and files follow.
fn stage(job: &Job) -> impl PartialEq + use<> {
    (
        job.status,
        job.attempt,
        job.cancel_requested,
        job.pause_requested,
        job.error_code,
    )
}

impl Selected {
    /// `news` is the newest job that the live stream told of.
    pub fn new(found: JobDetail, news: RwSignal<Option<Job>>) -> Self {
        let id = found.job.id;
        let detail = RwSignal::new(found);
        let job = Memo::new(move |_| {
            let fetched = detail.with(|d| d.job.clone());
            news.with(|n| n.clone().filter(|n| n.id == id && n.rev > fetched.rev))
                .unwrap_or(fetched)
        });
        let selected = Self {
            id,
            detail,
            job: job.into(),
            gone: RwSignal::new(false),
            news,
            fetching: StoredValue::new(Fetching::No),
        };

        // Its status changed: so did its actions, its timeline, perhaps its result.
        Effect::new(move |_| {
            let now = job.with(stage);
            if detail.with_untracked(|d| stage(&d.job)) != now {
                selected.refetch();
            }
        });
        Live::expect().subscribe(move |event| match event {
            LiveEvent::Removed(ids) if ids.contains(&id) => {
                selected.gone.try_set(true);
            }
            // The stream can't tell what happened: after a break, and between the rendering and its first connection.
            LiveEvent::Stale => selected.refetch(),
            _ => {}
        });
        selected
    }

    /// Takes a job that an action answered with.
    pub fn take(self, job: Job) {
        self.news.try_update(|known| {
            if known.as_ref().is_none_or(|k| k.id != job.id || k.rev < job.rev) {
                *known = Some(job);
            }
        });
    }

    /// Fetches the job again. Calls while a fetch is under way lead to one more fetch, not to many.
    pub fn refetch(self) {
        match self.fetching.try_get_value() {
            None | Some(Fetching::YesAndAgain) => return,
            Some(Fetching::Yes) => {
                self.fetching.try_update_value(|f| *f = Fetching::YesAndAgain);
                return;
            }
            Some(Fetching::No) => {}
        }
        self.fetching.try_update_value(|f| *f = Fetching::Yes);
        spawn_local(async move {
            match job_detail(self.id).await.inspect_err(lead_to_sign_in) {
                Ok(found) => {
                    self.detail.try_update(|d| {
                        if found.job.rev >= d.job.rev {
                            *d = found;
                        }
                    });
                }
                Err(problem) if problem.code == ProblemCode::NotFound => {
                    self.gone.try_set(true);
                }
                // The banner above the page tells of a lost connection; what is here stays until it is back.
                Err(_) => {}
            }
            let again = self.fetching.try_get_value() == Some(Fetching::YesAndAgain);
            self.fetching.try_update_value(|f| *f = Fetching::No);
            if again {
                self.refetch();
            }
        });
    }
}
