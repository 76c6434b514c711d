//! What callers may do. REST, server functions and the command line call this layer and no other; each call takes the
//! [`Actor`] and asks [`may`] before anything else. A job that the caller may not know of does not exist for them.

mod audit;
mod batches;
pub mod bulk;
pub mod cron;
mod enqueue;
mod external;
mod files;
mod guessing;
pub mod heads;
pub mod identity;
mod jobs;
mod labels;
pub mod live;
pub(in crate::server) mod outcome;
mod overview;
mod queues;
mod schedules;
mod secrets;
mod series;
mod settings;
mod standing;
pub(in crate::server) mod starters;
mod users;
pub mod vouched;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

pub use enqueue::{BulkEnqueued, Enqueued};
pub use external::Rules;
pub use files::Incoming;
pub use series::SeriesQuery;

use super::queue::{Bus, Change, Entry, Hold, Queue, Signal, Wish};
use super::secrets::{Places, Secrets};
use super::store::Store;
use super::store::ops::Changed;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::JobId;
use crate::domain::kind::{KindInfo, Policy};
use crate::domain::setting::Setting;
use crate::domain::status::Status;
use crate::domain::user::{Actor, Want, may};
use external::Workers;
use external::kinds::Kinds;
use identity::{Identity, Lifetimes};
use live::Hub;

/// The kinds, as far as callers need to know them.
pub trait Catalog: Send + Sync {
    /// Those that callers can start.
    fn infos(&self) -> Vec<KindInfo>;

    fn info(&self, kind: &str) -> Option<KindInfo>;

    /// The policy of kinds that have none of their own.
    fn default_policy(&self) -> Policy;

    fn policy(&self, kind: &str) -> Option<Policy>;

    /// Where the kind's args hold secrets; none: nowhere.
    fn secrets(&self, kind: &str) -> Option<Arc<Places>>;

    /// Whether the server alone starts jobs of this kind.
    fn is_internal(&self, kind: &str) -> bool;

    /// The args as the kind understands them, or what is wrong with them or with the kind's name. Kinds that callers can't start
    /// are not known here.
    fn check(&self, kind: &str, args: &Value) -> Result<Value, Problem>;
}

/// How long a shutdown waits for what people asked for and is not done yet.
const DOING_MAX: Duration = Duration::from_secs(10);

/// Limits on callers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Waiting jobs at which a new one is refused.
    pub queue_max: u64,
    /// Bytes of a job's args as JSON.
    pub args_max: u64,
    /// Bytes of an uploaded file.
    pub upload_max: u64,
    /// How long sessions last.
    pub sessions: Lifetimes,
}

/// The service layer. Cheap to clone: a request does so at each of its layers.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

impl Deref for Service {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What a [`Service`] stands on.
#[derive(Clone)]
pub struct Parts {
    pub(in crate::server) store: Store,
    pub(in crate::server) queue: Arc<dyn Queue>,
    pub(in crate::server) bus: Arc<dyn Bus>,
    catalog: Arc<Kinds>,
    workers: Arc<Workers>,
    limits: Limits,
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    secrets: Secrets,
    settings: Arc<[Setting]>,
    heads: Arc<heads::Heads>,
    faults: Arc<schedules::Faults>,
    arriving: files::Arriving,
    /// What goes on though whoever asked for it may be gone.
    doing: TaskTracker,
    /// Told when a job has ended for which others wait.
    pub(in crate::server) dependents: Arc<Notify>,
    /// Workers of this process that begin new jobs at once.
    pub(in crate::server) starters: Arc<starters::Starters>,
}

impl Service {
    pub fn new(
        store: Store,
        queue: Arc<dyn Queue>,
        bus: Arc<dyn Bus>,
        catalog: Arc<dyn Catalog>,
        limits: Limits,
        secrets: Secrets,
        settings: &[Setting],
    ) -> Self {
        let hub = Hub::start(store.clone(), queue.clone(), bus.clone());
        Self(Arc::new(Parts {
            store,
            queue,
            bus,
            catalog: Arc::new(Kinds::new(catalog)),
            workers: Arc::default(),
            limits,
            hub,
            identity: Arc::new(Identity::new(limits.sessions)),
            secrets,
            settings: settings.into(),
            heads: Arc::default(),
            faults: Arc::default(),
            arriving: files::Arriving::default(),
            doing: TaskTracker::new(),
            dependents: Arc::default(),
            starters: Arc::default(),
        }))
    }

    /// With these rules for the workers outside, in place of those that hold by default.
    #[must_use]
    pub fn working_by(self, rules: Rules) -> Self {
        let workers = Arc::new(Workers::new(rules));
        Self(Arc::new(Parts {
            workers,
            ..Parts::clone(&self)
        }))
    }

    /// Ends the live streams and closes the store: the last call of a process.
    pub async fn close(&self) {
        self.hub.close();
        self.doing.close();
        if tokio::time::timeout(DOING_MAX, self.doing.wait()).await.is_err() {
            tracing::warn!("actions on many jobs were broken off by the shutdown");
        }
        self.queue.close().await;
        self.heads.close(&self.store).await;
        self.store.close().await;
    }

    /// Ends when another process has taken this one's database over while that was away.
    pub fn lost(&self) -> tokio_util::sync::CancellationToken {
        self.store.lost()
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A job that counted against these limits runs no more: others may go.
    pub(in crate::server) async fn release(&self, holds: Option<&str>) {
        for name in holds
            .and_then(|h| serde_json::from_str::<Vec<String>>(h).ok())
            .into_iter()
            .flatten()
        {
            if let Some(hold) = Hold::parse(&name) {
                self.queue.release(&hold, 1).await;
            }
        }
    }

    /// Tells the queue that these wait; what is enqueued from now on goes behind them.
    async fn announce(&self, entries: &[Entry]) {
        self.starters.waits();
        self.queue.announce(entries).await;
    }

    /// Does what a change asks for beyond the database: tells the queue, the running attempt and the viewers.
    pub(in crate::server) async fn settle(&self, changed: &Changed) {
        let Changed { row, effects } = changed;
        // Before anybody can take the job anew.
        let wishes = [
            (effects.signal_cancel, Wish::Cancel),
            (effects.signal_pause, Wish::Pause),
            (effects.signal_abort, Wish::Abort),
        ];
        for (_, wish) in wishes.into_iter().filter(|(wanted, _)| *wanted) {
            let (id, epoch) = (row.job.id, changed.epoch());
            self.bus.signal(Signal { id, epoch, wish });
        }
        if effects.ended.is_some() {
            self.release(row.holds.as_deref()).await;
        }
        if row.job.status.is_finished() && row.dependents {
            self.dependents.notify_one();
        }
        if effects.withdraw {
            self.queue.withdraw(&[row.seq]).await;
        }
        if effects.announce {
            match row.job.status {
                Status::Pending => self.announce(&[Entry::of(row.seq, &row.job)]).await,
                _ => self.queue.due_hint(),
            }
        }
        self.bus.change(Change::Job(Arc::new(row.job.clone())));
    }
}

/// Refuses what the actor may not do at all.
fn require(actor: &Actor, want: Want<'_>) -> Result<(), Problem> {
    if may(actor, want) {
        Ok(())
    } else {
        let who = match &actor.grant {
            Some(_) => "This token".to_string(),
            None => format!("The role {}", actor.role.label().to_lowercase()),
        };
        Err(Problem::new(ProblemCode::Forbidden, format!("{who} may not do this.")))
    }
}

/// A defect: the log says which, and callers learn no more than that there is one.
fn broken(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "a call could not be brought to its end");
    Problem::new(ProblemCode::Internal, "The server met an error; its log says more.")
}

/// The answer for a job that is not there, or that the caller may not know of: the same for both.
fn no_job(id: JobId) -> Problem {
    Problem::not_found(format_args!("job {id}"))
}
