//! What live viewers see. One hub per process listens to the bus, folds changes of the same job together, and hands each
//! fold to every viewer: any number of tabs costs the database the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::jobs::read;
use super::overview::{narrowed, overview, own_counts};
use super::{Service, require};
use crate::domain::error::Problem;
use crate::domain::job::{Job, JobId};
use crate::domain::live::LiveEvent;
use crate::domain::log::{LogFilter, LogLine, LogMessage};
use crate::domain::stats::{Counts, Overview};
use crate::domain::user::{Actor, Want, may};
use crate::server::queue::{Bus, Change, Queue};
use crate::server::store::{Store, StoreError};

/// Changes of one job are told at most this often.
const FOLD: Duration = Duration::from_millis(250);
/// Counts and health are read at most this often while something changes, and at least this often while somebody looks.
const OVERVIEW_EVERY: Duration = Duration::from_secs(1);
const OVERVIEW_IDLE: Duration = Duration::from_secs(10);
/// Of more changed jobs in one fold, viewers are told to fetch again what they look at.
const JOBS_MAX: usize = 200;
/// Folds that a viewer who comes back may have missed, and jobs in them: what is kept stays a few megabytes.
const RECENT: usize = 1_024;
const RECENT_JOBS: usize = 5_000;
/// A new viewer is told again what changed this short a time ago: the page may have been rendered before it.
const OVERLAP: Duration = Duration::from_secs(15);
/// Lines that one message of a log stream carries at the most.
const LINES_MAX: u32 = 1_000;

/// One fold.
struct Batch {
    n: u64,
    at: Instant,
    content: Content,
}

enum Content {
    Jobs(Vec<Arc<Job>>),
    Removed(Vec<Arc<Job>>),
    Overview(Box<Overview>),
    Stale,
}

impl Content {
    fn jobs(&self) -> usize {
        match self {
            Self::Jobs(jobs) | Self::Removed(jobs) => jobs.len(),
            Self::Overview(_) | Self::Stale => 0,
        }
    }
}

/// Folds and hands out.
pub struct Hub {
    /// Tells cursors of an earlier process from this one's.
    boot: String,
    shared: Mutex<Shared>,
    sender: broadcast::Sender<Arc<Batch>>,
    stop: CancellationToken,
    store: Store,
    /// The counts of those who do not see all jobs.
    own: tokio::sync::Mutex<HashMap<Narrowed, (Instant, Counts)>>,
}

/// By whom and to which kinds the view is narrowed.
type Narrowed = (String, Option<Vec<String>>);

#[derive(Default)]
struct Shared {
    next: u64,
    /// Jobs that the recent folds hold.
    jobs: usize,
    recent: VecDeque<Arc<Batch>>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Hub {
    pub(super) fn start(store: Store, queue: Arc<dyn Queue>, bus: Arc<dyn Bus>) -> Arc<Self> {
        let hub = Arc::new(Self {
            boot: Uuid::new_v4().simple().to_string()[..8].to_string(),
            shared: Mutex::default(),
            sender: broadcast::Sender::new(RECENT),
            stop: CancellationToken::new(),
            store: store.clone(),
            own: tokio::sync::Mutex::default(),
        });
        let stop = hub.stop.clone();
        let changes = bus.changes();
        // The task holds the hub weakly, so that the hub ends with the last service handle.
        tokio::spawn(run(Arc::downgrade(&hub), store, queue, changes, stop));
        hub
    }

    pub(super) fn close(&self) {
        self.stop.cancel();
    }

    /// Resolves when the process ends, or begins to.
    pub(super) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    fn publish(&self, content: Content) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.next += 1;
        let batch = Arc::new(Batch {
            n: shared.next,
            at: Instant::now(),
            content,
        });
        shared.recent.push_back(batch.clone());
        shared.jobs += batch.content.jobs();
        while shared.recent.len() > RECENT || shared.jobs > RECENT_JOBS {
            let Some(oldest) = shared.recent.pop_front() else { break };
            shared.jobs -= oldest.content.jobs();
        }
        // Under the lock, so that a new viewer neither misses a fold nor gets it twice.
        let _ = self.sender.send(batch);
    }

    /// What a viewer with this cursor has missed (`None`: more than is known), and what comes from now on.
    fn join(&self, after: Option<&str>) -> (Option<Vec<Arc<Batch>>>, broadcast::Receiver<Arc<Batch>>) {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let Some(after) = after else {
            let recent = shared.recent.iter().filter(|b| b.at.elapsed() < OVERLAP).cloned();
            return (Some(recent.collect()), receiver);
        };
        let oldest = shared.recent.front().map_or(shared.next + 1, |b| b.n);
        let known = after
            .split_once('-')
            .filter(|(boot, _)| *boot == self.boot)
            .and_then(|(_, n)| n.parse::<u64>().ok())
            .filter(|n| *n + 1 >= oldest && *n <= shared.next);
        let missed = known.map(|n| shared.recent.iter().filter(|b| b.n > n).cloned().collect());
        (missed, receiver)
    }

    /// An overview as far as it is the actor's to see. However many tabs they have open, their jobs are counted once a second.
    async fn own(&self, actor: &Actor, event: LiveEvent) -> LiveEvent {
        let LiveEvent::Overview(overview) = event else {
            return event;
        };
        if may(actor, Want::ReadAll) {
            return LiveEvent::Overview(overview);
        }
        let key = (actor.name.clone(), actor.grant.clone().map(|grant| grant.kinds));
        let mut own = self.own.lock().await;
        own.retain(|_, (at, _)| at.elapsed() < OVERVIEW_EVERY);
        let counts = match own.get(&key) {
            Some((_, counts)) => counts.clone(),
            None => {
                let counts = own_counts(&self.store, actor).await.unwrap_or_default();
                own.insert(key, (Instant::now(), counts.clone()));
                counts
            }
        };
        LiveEvent::Overview(Box::new(narrowed(*overview, counts)))
    }

    fn cursor(&self, n: u64) -> String {
        format!("{}-{n}", self.boot)
    }
}

async fn run(
    hub: Weak<Hub>,
    store: Store,
    queue: Arc<dyn Queue>,
    mut changes: broadcast::Receiver<Change>,
    stop: CancellationToken,
) {
    let mut jobs: HashMap<JobId, Arc<Job>> = HashMap::new();
    let mut removed: Vec<Arc<Job>> = Vec::new();
    let mut lost = false;
    let mut told_overview = Instant::now() - OVERVIEW_IDLE;
    let mut overview_due = true;
    let mut tick = tokio::time::interval(FOLD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // Once viewers have to fetch again, what else happens in this fold need not be looked at.
            change = changes.recv(), if !lost => match change {
                Ok(Change::Job(job)) => {
                    let newer = jobs.get(&job.id).is_none_or(|old| old.rev < job.rev);
                    if newer {
                        jobs.insert(job.id, job);
                        lost = jobs.len() > JOBS_MAX;
                    }
                }
                Ok(Change::Removed(job)) => {
                    jobs.remove(&job.id);
                    removed.push(job);
                    lost = removed.len() > JOBS_MAX;
                }
                Ok(Change::Many) | Err(RecvError::Lagged(_)) => lost = true,
                Ok(Change::Kinds) => {}
                Err(RecvError::Closed) => return,
            },
            _ = tick.tick() => {
                let Some(hub) = hub.upgrade() else { return };
                overview_due |= lost || !jobs.is_empty() || !removed.is_empty();
                if lost {
                    (lost, jobs, removed) = (false, HashMap::new(), Vec::new());
                    // Before viewers are told: what they then fetch is no older than what comes from now on.
                    changes = changes.resubscribe();
                    hub.publish(Content::Stale);
                }
                if !jobs.is_empty() {
                    hub.publish(Content::Jobs(jobs.drain().map(|(_, job)| job).collect()));
                }
                if !removed.is_empty() {
                    hub.publish(Content::Removed(std::mem::take(&mut removed)));
                }
                let since = told_overview.elapsed();
                let watched = hub.sender.receiver_count() > 0;
                if watched && (since >= OVERVIEW_IDLE || overview_due && since >= OVERVIEW_EVERY) {
                    told_overview = Instant::now();
                    overview_due = false;
                    match overview(&store, &*queue).await {
                        Ok(overview) => hub.publish(Content::Overview(Box::new(overview))),
                        Err(error) => tracing::debug!(%error, "no overview for live viewers"),
                    }
                }
            }
        }
    }
}

/// The part of a fold that the actor may see.
fn visible(actor: &Actor, content: &Content) -> Option<LiveEvent> {
    let sees = |job: &&Arc<Job>| may(actor, read(job));
    match content {
        Content::Jobs(jobs) => {
            let jobs: Vec<Job> = jobs.iter().filter(sees).map(|job| Job::clone(job)).collect();
            (!jobs.is_empty()).then_some(LiveEvent::Jobs(jobs))
        }
        Content::Removed(jobs) => {
            let ids: Vec<JobId> = jobs.iter().filter(sees).map(|j| j.id).collect();
            (!ids.is_empty()).then_some(LiveEvent::Removed(ids))
        }
        Content::Overview(overview) => Some(LiveEvent::Overview(overview.clone())),
        Content::Stale => Some(LiveEvent::Stale),
    }
}

impl Service {
    /// Every change of the jobs that the actor may see, each with the cursor to go on after it. `after`: the last cursor
    /// that the viewer has seen.
    pub fn live(
        &self,
        actor: &Actor,
        after: Option<&str>,
    ) -> Result<impl Stream<Item = (String, LiveEvent)> + Send + use<>, Problem> {
        require(actor, Want::ReadOwn)?;
        let (missed, receiver) = self.hub.join(after);
        let first = match missed {
            Some(batches) => batches,
            None => vec![Arc::new(Batch {
                n: 0,
                at: Instant::now(),
                content: Content::Stale,
            })],
        };
        let (actor, hub) = (actor.clone(), self.hub.clone());
        let state = (VecDeque::from(first), receiver);
        Ok(futures::stream::unfold(state, move |(mut waiting, mut receiver)| {
            let (actor, hub) = (actor.clone(), hub.clone());
            async move {
                loop {
                    let batch = match waiting.pop_front() {
                        Some(batch) => batch,
                        None => match receiver.recv().await {
                            Ok(batch) => batch,
                            Err(RecvError::Lagged(_)) => {
                                let next = hub.shared.lock().unwrap_or_else(PoisonError::into_inner).next;
                                return Some(((hub.cursor(next), LiveEvent::Stale), (waiting, receiver)));
                            }
                            Err(RecvError::Closed) => return None,
                        },
                    };
                    if let Some(event) = visible(&actor, &batch.content) {
                        let event = hub.own(&actor, event).await;
                        return Some(((hub.cursor(batch.n), event), (waiting, receiver)));
                    }
                }
            }
        }))
    }

    /// A job's log from line `after + 1` on, then live, until the job has ended and every line was given. Ends early only
    /// when the store fails.
    pub async fn follow_log(
        &self,
        actor: &Actor,
        id: JobId,
        after: u64,
    ) -> Result<mpsc::Receiver<LogMessage>, Problem> {
        let row = self.row(actor, id).await?;
        let (sender, receiver) = mpsc::channel(8);
        let (service, seq) = (self.clone(), row.seq);
        tokio::spawn(async move {
            if let Err(error) = service.follow(id, seq, after, &sender).await {
                tracing::warn!(%error, job = %id, "a log stream ended early");
            }
        });
        Ok(receiver)
    }

    async fn follow(
        &self,
        id: JobId,
        seq: i64,
        mut last: u64,
        out: &mpsc::Sender<LogMessage>,
    ) -> Result<(), StoreError> {
        // Both before the first reading: nothing can fall between.
        let mut fresh = self.bus.follow(id);
        let mut changes = self.bus.changes();
        loop {
            // The status before the lines: an ended job gets no more of them.
            let finished = match self.store.job(id).await? {
                Some(row) => row.job.status.is_finished(),
                None => true,
            };
            if !self.send_stored(seq, &mut last, out).await? {
                return Ok(());
            }
            if finished {
                let _ = out.send(LogMessage::End).await;
                return Ok(());
            }
            loop {
                tokio::select! {
                    () = out.closed() => return Ok(()),
                    lines = fresh.recv() => match lines {
                        // Some may have been missed.
                        Ok(lines) if lines.is_empty() => break,
                        Ok(lines) => {
                            let new: Vec<LogLine> = lines.iter().filter(|l| l.n > last).cloned().collect();
                            match new.first() {
                                None => {}
                                Some(first) if first.n == last + 1 => {
                                    last = new.last().map_or(last, |l| l.n);
                                    if out.send(LogMessage::Lines { lines: new }).await.is_err() {
                                        return Ok(());
                                    }
                                }
                                Some(_) => break,
                            }
                        }
                        Err(_) => {
                            fresh = self.bus.follow(id);
                            break;
                        }
                    },
                    change = changes.recv() => match change {
                        Ok(Change::Job(job)) if job.id == id && job.status.is_finished() => break,
                        Ok(Change::Removed(job)) if job.id == id => break,
                        Ok(Change::Many) => break,
                        Ok(_) => {}
                        Err(_) => {
                            changes = self.bus.changes();
                            break;
                        }
                    },
                }
            }
        }
    }

    /// Sends what is stored beyond `last`; `false` when the receiver has gone.
    async fn send_stored(&self, seq: i64, last: &mut u64, out: &mpsc::Sender<LogMessage>) -> Result<bool, StoreError> {
        loop {
            let filter = LogFilter {
                after: *last,
                ..LogFilter::default()
            };
            let lines = self.store.log(seq, &filter, LINES_MAX).await?;
            let full = lines.len() == LINES_MAX as usize;
            if let Some(line) = lines.last() {
                *last = line.n;
                if out.send(LogMessage::Lines { lines }).await.is_err() {
                    return Ok(false);
                }
            }
            if !full {
                return Ok(true);
            }
        }
    }
}
