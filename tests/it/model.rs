//! Random operations on the store and on the state machine must agree: what the set statements write for many jobs is what
//! the machine says about each, whatever came before, and the counts and histories follow. So do limits, unique keys and jobs
//! that wait for others, which the model keeps in its own, plain way.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;
use windlass::domain::error::{ErrorCode, JobError};
use windlass::domain::job::JobId;
use windlass::domain::kind::Policy;
use windlass::domain::machine::{Event, Refused, State, apply};
use windlass::domain::queue::{Entry, Hold};
use windlass::domain::status::Status;
use windlass::domain::time::from_millis;
use windlass::server::store::batches::NewBatch;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued, Taker, Written};
use windlass::server::store::finish::Finish;
use windlass::server::store::jobs::JobRow;
use windlass::server::store::limits::Limits;
use windlass::server::store::ops::{Changed, Lease};
use windlass::server::store::{Store, StoreError};

use crate::harness;

/// Something that happens to some job; the numbers choose which.
#[derive(Clone, Debug)]
enum Op {
    Enqueue {
        later: bool,
        member: bool,
        /// Shares a concurrency key with others.
        keyed: bool,
        /// One of the unique keys.
        unique: Option<usize>,
        /// Waits for some job, and with this whether it runs even when that does not complete.
        needs: Option<(usize, bool)>,
        /// A worker at rest takes it as it is written down, unless something is in the way.
        taken: bool,
    },
    Claim,
    /// With a look at the limits. `all`: also at that of the whole system.
    ClaimLimited {
        all: bool,
    },
    /// `stale`: with the epoch of an earlier lease.
    Finish {
        which: usize,
        stale: bool,
    },
    Fail {
        which: usize,
        retryable: bool,
        stale: bool,
    },
    HandBack {
        which: usize,
    },
    Stopped {
        which: usize,
    },
    Checkpointed {
        which: usize,
    },
    Person {
        which: usize,
        what: usize,
    },
    Rescue,
    Promote,
    /// Looks at the jobs that wait for others.
    Resolve,
    Delete {
        which: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let which = || 0_usize..6;
    let op = prop_oneof![
        4 => enqueue(),
        4 => Just(Op::Claim),
        3 => any::<bool>().prop_map(|all| Op::ClaimLimited { all }),
        4 => (which(), prop::bool::weighted(0.2)).prop_map(|(which, stale)| Op::Finish { which, stale }),
        3 => (which(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(which, retryable, stale)| Op::Fail { which, retryable, stale }),
        1 => which().prop_map(|which| Op::HandBack { which }),
        1 => which().prop_map(|which| Op::Stopped { which }),
        2 => which().prop_map(|which| Op::Checkpointed { which }),
        6 => (which(), 0_usize..8).prop_map(|(which, what)| Op::Person { which, what }),
        1 => Just(Op::Rescue),
        2 => Just(Op::Promote),
        2 => Just(Op::Resolve),
        1 => which().prop_map(|which| Op::Delete { which }),
    ];
    prop::collection::vec(op, 1..60)
}

fn enqueue() -> impl Strategy<Value = Op> {
    let sometimes = || prop::bool::weighted(0.3);
    let unique = prop::option::weighted(0.3, 0_usize..2);
    let needs = prop::option::weighted(0.3, (0_usize..6, any::<bool>()));
    let given = (any::<bool>(), sometimes(), sometimes(), unique, needs, any::<bool>());
    given.prop_map(|(later, member, keyed, unique, needs, taken)| Op::Enqueue {
        later,
        member,
        keyed,
        unique,
        needs,
        taken,
    })
}

/// The kind of which one may run at a time.
const LIMITED: &str = "a";

fn limits(all: bool) -> Limits {
    Limits {
        all: all.then_some(2),
        member: 1,
        kinds: BTreeMap::from([(LIMITED.to_string(), (Some(1), None))]),
    }
}

/// A job as the machine has it.
struct Modelled {
    seq: i64,
    batch: Uuid,
    state: State,
    kind: &'static str,
    member: bool,
    key: Option<String>,
    unique: Option<String>,
    needs: Option<(JobId, bool)>,
    /// The limits that it counts against.
    holds: Vec<String>,
}

impl Modelled {
    /// What it would count against, and how many may.
    fn limits(&self, limits: &Limits) -> Vec<(Hold, u32)> {
        let mut holds: Vec<(Hold, u32)> = limits.all.map(|max| (Hold::All, max)).into_iter().collect();
        if self.kind == LIMITED {
            holds.push((Hold::Kind(self.kind.into()), 1));
        }
        if self.member {
            holds.push((Hold::Owner("test".into()), limits.member));
        }
        holds.extend(self.key.clone().map(|key| (Hold::Key(key), 1)));
        holds
    }
}

struct World {
    store: Store,
    jobs: BTreeMap<JobId, Modelled>,
    batch: Uuid,
}

impl World {
    fn nth(&self, which: usize) -> Option<JobId> {
        self.jobs.keys().nth(which).copied()
    }

    fn lease(&self, id: JobId, stale: bool) -> Lease {
        let job = &self.jobs[&id];
        let epoch = job.state.epoch.saturating_sub(u64::from(stale));
        Lease {
            id,
            seq: job.seq,
            epoch,
        }
    }

    async fn now(&self) -> i64 {
        self.store.clock().await.expect("clock")
    }

    /// Both do it; both must say the same.
    async fn change(&mut self, id: JobId, event: Event) {
        let said = apply(&self.jobs[&id].state, &event, from_millis(self.now().await));
        let done = self.store.change(id, event.clone(), "test".into(), "test".into()).await;
        match (said, done) {
            (Ok((next, effects)), Ok(changed)) => {
                assert_eq!(changed.effects, effects, "{event:?}");
                self.agree(id, next, &changed.row.state, &event);
            }
            (Err(said), Err(StoreError::Refused(done))) => assert_eq!(said, done, "{event:?}"),
            (said, done) => panic!("{event:?}: the machine says {said:?}, the store {done:?}"),
        }
    }

    /// Takes over the store's state, which may differ from the machine's in the moment alone.
    fn agree(&mut self, id: JobId, mut said: State, done: &State, what: &dyn std::fmt::Debug) {
        said.run_at = done.run_at;
        assert_eq!(said, *done, "{what:?}");
        let job = self.jobs.get_mut(&id).expect("known");
        if said.status != Status::Running {
            job.holds.clear();
        }
        job.state = said;
    }

    async fn stored(&self, id: JobId) -> State {
        self.store.job(id).await.expect("read").expect("there").state
    }

    async fn run(&mut self, op: Op) {
        match op {
            Op::Enqueue {
                later,
                member,
                keyed,
                unique,
                needs,
                taken,
            } => self.enqueue(later, member, keyed, unique, needs, taken).await,
            Op::Claim => {
                let seqs = self.jobs.values().map(|j| j.seq).collect();
                let claimed = self
                    .store
                    .claim(Claim {
                        seqs,
                        worker: "worker".into(),
                        lease_ms: 60_000,
                        limited: limits(false).limited(),
                        external: false,
                    })
                    .await
                    .expect("claimed");
                let claimed: HashMap<JobId, u64> = claimed.into_iter().map(|c| (c.lease.id, c.lease.epoch)).collect();
                let now = from_millis(self.now().await);
                for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                    let job = &self.jobs[&id];
                    let free = job.limits(&limits(false)).is_empty();
                    match apply(&job.state, &Event::Claim, now) {
                        Ok((next, _)) if free => {
                            assert_eq!(claimed.get(&id), Some(&next.epoch));
                            let stored = self.stored(id).await;
                            self.agree(id, next, &stored, &"claim");
                        }
                        _ => assert!(!claimed.contains_key(&id), "{:?}", self.jobs[&id].state),
                    }
                }
            }
            Op::ClaimLimited { all } => self.claim_limited(all).await,
            Op::Resolve => self.resolve().await,
            Op::Finish { which, stale } => {
                let Some(id) = self.nth(which) else { return };
                let lease = self.lease(id, stale);
                let event = Event::Complete { epoch: lease.epoch };
                let said = apply(&self.jobs[&id].state, &event, from_millis(self.now().await));
                let done = self
                    .store
                    .finish(Finish {
                        lease,
                        result: None,
                        again: true,
                        cpu_ms: None,
                    })
                    .await;
                match (said, done) {
                    (Ok((next, _)), Ok(_)) => {
                        let stored = self.stored(id).await;
                        self.agree(id, next, &stored, &event);
                    }
                    (Err(Refused::Stale { .. }), Err(StoreError::Refused(Refused::Stale { .. }))) => {}
                    (said, done) => panic!("finish: the machine says {said:?}, the store {done:?}"),
                }
            }
            Op::Fail {
                which,
                retryable,
                stale,
            } => {
                let Some(id) = self.nth(which) else { return };
                let code = if retryable {
                    ErrorCode::NetworkError
                } else {
                    ErrorCode::Validation
                };
                let epoch = self.lease(id, stale).epoch;
                let error = JobError::new(code, "it failed");
                self.change(
                    id,
                    Event::Fail {
                        epoch,
                        error,
                        delay_ms: 0,
                    },
                )
                .await;
            }
            Op::HandBack { which } => {
                let Some(id) = self.nth(which) else { return };
                let epoch = self.lease(id, false).epoch;
                self.change(id, Event::HandBack { epoch }).await;
            }
            Op::Stopped { which } => {
                let Some(id) = self.nth(which) else { return };
                let epoch = self.lease(id, false).epoch;
                self.change(id, Event::Stopped { epoch }).await;
            }
            Op::Checkpointed { which } => {
                let Some(id) = self.nth(which) else { return };
                let epoch = self.lease(id, false).epoch;
                self.change(id, Event::Checkpointed { epoch }).await;
            }
            Op::Person { which, what } => {
                let Some(id) = self.nth(which) else { return };
                let now = self.now().await;
                let event = match what {
                    0 => Event::RunNow,
                    1 => Event::Pause { checkpoints: false },
                    2 => Event::Pause { checkpoints: true },
                    3 => Event::Resume,
                    4 => Event::Cancel,
                    5 => Event::Abort,
                    6 => Event::Retry { at: from_millis(now) },
                    _ => Event::Retry {
                        at: from_millis(now + 3_600_000),
                    },
                };
                if let (Event::Retry { .. }, Some(key)) = (&event, &self.jobs[&id].unique)
                    && self.jobs[&id].state.status.is_finished()
                    && self.unfinished(key).is_some()
                {
                    // What the machine, which knows one job, can't know.
                    let done = self.store.change(id, event, "test".into(), "test".into()).await;
                    assert!(
                        matches!(done, Err(StoreError::Refused(_))),
                        "two unfinished jobs of one key"
                    );
                    return;
                }
                self.change(id, event).await;
            }
            Op::Rescue => {
                let running: Vec<JobId> = self.in_status(Status::Running);
                let rescued = self.store.rescue(true, Vec::new()).await.expect("rescued");
                assert_eq!(rescued.len(), running.len());
                let lost = Event::LeaseLost {
                    crashes_max: harness::CRASHES_MAX,
                };
                self.take_over(rescued, &lost).await;
            }
            Op::Promote => {
                let due = self.store.promote_due().await.expect("promoted");
                self.take_over(due, &Event::Due).await;
                assert!(
                    self.in_status(Status::Retrying).is_empty(),
                    "all that retries here is due at once"
                );
            }
            Op::Delete { which } => {
                let Some(id) = self.nth(which) else { return };
                self.store
                    .delete(id, harness::deed("job.delete", id))
                    .await
                    .expect("deleted");
                let gone = self.jobs.remove(&id).expect("known");
                if gone.state.status == Status::Completed {
                    // That it did stays true for those that wait for it.
                    let waiting = self.jobs.values_mut();
                    waiting
                        .filter(|job| job.needs.is_some_and(|(needed, _)| needed == id))
                        .for_each(|job| job.needs = None);
                }
                assert!(self.store.job(id).await.expect("read").is_none());
            }
        }
    }

    /// The unfinished job that has this unique key.
    fn unfinished(&self, key: &str) -> Option<JobId> {
        let mut jobs = self.jobs.iter();
        let found = jobs.find(|(_, j)| j.unique.as_deref() == Some(key) && !j.state.status.is_finished());
        found.map(|(id, _)| *id)
    }

    async fn enqueue(
        &mut self,
        later: bool,
        member: bool,
        keyed: bool,
        unique: Option<usize>,
        needs: Option<(usize, bool)>,
        taken: bool,
    ) {
        let policy = Policy {
            max_attempts: 2,
            ..Policy::DEFAULT
        };
        let kind = ["b", LIMITED, "c"][self.jobs.len() % 3];
        let unique = unique.map(|n| format!("once{n}"));
        let key = keyed.then(|| "gate".to_string());
        let needs = needs.and_then(|(which, anyway)| Some((self.nth(which)?, anyway)));
        let known = unique.as_ref().and_then(|key| self.unfinished(key));
        // All jobs belong to a batch that begins with the first one.
        let starts = self.jobs.is_empty().then(|| NewBatch::new("model", "test"));
        self.batch = starts.as_ref().map_or(self.batch, |batch| batch.id);
        let job = Enqueue {
            queue: if later { "later" } else { "default" }.into(),
            delay_ms: later.then_some(3_600_000),
            unique_key: unique.clone(),
            concurrency_key: key.clone(),
            member,
            depends_on: needs.iter().map(|(id, _)| *id).collect(),
            run_anyway: needs.is_some_and(|(_, anyway)| anyway),
            batch: Some(self.batch),
            ..Enqueue::of(kind, "test", serde_json::json!({}), &policy)
        };
        let free = !member && !keyed && kind != LIMITED && needs.is_none();
        let batch = Batch {
            deed: None,
            jobs: vec![job],
            queue_max: 1_000,
            starts,
            taker: (taken && free).then(|| Taker {
                worker: "worker".into(),
                lease_ms: 60_000,
            }),
        };
        let begins = batch.taker.is_some() && !later;
        let Enqueued::Written(mut written) = self.store.enqueue(batch).await.expect("written") else {
            panic!("the queue is not full");
        };
        let row = match (written.pop().expect("one"), known) {
            (Written::Existing(row), Some(known)) => {
                assert_eq!((row.job.id, &row.state), (known, &self.jobs[&known].state));
                return;
            }
            (Written::New(row), None) => row,
            (written, known) => panic!("unfinished with its key is {known:?}, and it was {written:?}"),
        };
        let stored = self.store.job(row.job.id).await.expect("read").expect("there");
        assert_eq!(
            (&stored.state, &stored.job),
            (&row.state, &row.job),
            "what is answered is what is stored"
        );
        if begins {
            let waits = State {
                status: Status::Pending,
                attempt: 0,
                epoch: 0,
                ..row.state.clone()
            };
            let (claimed, _) = apply(&waits, &Event::Claim, from_millis(self.now().await)).expect("claimed");
            assert_eq!(claimed, row.state);
            assert_eq!((row.job.rev, row.job.worker.as_deref()), (2, Some("worker")));
        }
        let expected = match self.verdict(needs) {
            Some(Event::Cancel) => Status::Cancelled,
            Some(_) if later => Status::Scheduled,
            Some(_) if begins => Status::Running,
            Some(_) => Status::Pending,
            None => Status::Blocked,
        };
        assert_eq!(row.state.status, expected);
        self.jobs.insert(
            row.job.id,
            Modelled {
                seq: row.seq,
                batch: self.batch,
                state: row.state,
                kind,
                member,
                key,
                unique,
                needs,
                holds: Vec::new(),
            },
        );
    }

    /// What becomes of a job that waits for another one, or for none; nothing while that has not ended.
    fn verdict(&self, needs: Option<(JobId, bool)>) -> Option<Event> {
        let Some((id, anyway)) = needs else {
            return Some(Event::Unblock);
        };
        match self.jobs.get(&id).map(|j| j.state.status) {
            Some(Status::Completed) => Some(Event::Unblock),
            Some(status) if !status.is_finished() => None,
            _ if anyway => Some(Event::Unblock),
            _ => Some(Event::Cancel),
        }
    }

    async fn resolve(&mut self) {
        while self.store.dependents_due().await.expect("read") {
            for changed in self.store.resolve_dependents().await.expect("resolved").changed {
                let id = changed.row.job.id;
                let event = self
                    .verdict(self.jobs[&id].needs)
                    .expect("it waits for nothing any more");
                self.take_over(vec![changed], &event).await;
            }
        }
        for id in self.in_status(Status::Blocked) {
            assert_eq!(self.verdict(self.jobs[&id].needs), None, "it was forgotten");
        }
    }

    /// One by one in the order of the claim: whoever finds a limit full waits, and takes no place of any other.
    async fn claim_limited(&mut self, all: bool) {
        let limits = limits(all);
        let claim = Claim {
            seqs: self.jobs.values().map(|j| j.seq).collect(),
            worker: "worker".into(),
            lease_ms: 60_000,
            limited: limits.limited(),
            external: false,
        };
        let (claimed, refused) = self.store.claim_limited(claim, limits.clone()).await.expect("claimed");
        let mut claimed: HashMap<JobId, u64> = claimed.into_iter().map(|c| (c.lease.id, c.lease.epoch)).collect();
        let refused: Vec<(i64, Hold)> = refused.into_iter().map(|one| (one.seq, one.hold)).collect();
        let now = from_millis(self.now().await);
        let mut expected = Vec::new();
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let Ok((next, _)) = apply(&self.jobs[&id].state, &Event::Claim, now) else {
                continue;
            };
            let holds = self.jobs[&id].limits(&limits);
            let taken = |hold: &Hold| {
                let name = hold.to_string();
                self.jobs.values().filter(|j| j.holds.contains(&name)).count() as u32
            };
            if let Some((full, _)) = holds.iter().find(|(hold, max)| taken(hold) >= *max) {
                expected.push((self.jobs[&id].seq, full.clone()));
                continue;
            }
            assert_eq!(claimed.remove(&id), Some(next.epoch), "no limit is in its way");
            let stored = self.stored(id).await;
            self.agree(id, next, &stored, &"claim under limits");
            self.jobs.get_mut(&id).expect("known").holds = holds.iter().map(|(hold, _)| hold.to_string()).collect();
        }
        assert_eq!(refused, expected);
        assert!(claimed.is_empty(), "taken beyond the limits: {claimed:?}");
    }

    fn in_status(&self, status: Status) -> Vec<JobId> {
        let jobs = self.jobs.iter().filter(|(_, j)| j.state.status == status);
        jobs.map(|(id, _)| *id).collect()
    }

    async fn take_over(&mut self, changes: Vec<Changed>, event: &Event) {
        let now = from_millis(self.now().await);
        for changed in changes {
            let id = changed.row.job.id;
            let (next, _) = apply(&self.jobs[&id].state, event, now).expect("allowed");
            self.agree(id, next, &changed.row.state, event);
        }
    }

    /// A rebuilt index gets to know every job that waits, once and as it was announced.
    async fn check_waiting(&self) {
        let mut told = Vec::new();
        loop {
            let page = self.store.pending_after(told.last(), 2).await.expect("read");
            if page.is_empty() {
                break;
            }
            told.extend(page);
        }
        let mut waiting = Vec::new();
        for id in self.in_status(Status::Pending) {
            let row = self.store.job(id).await.expect("read").expect("there");
            waiting.push(Entry::of(row.seq, &row.job));
        }
        waiting.sort_by(|a, b| (&a.cell.kind, a.seq).cmp(&(&b.cell.kind, b.seq)));
        assert_eq!(told, waiting);
    }

    /// Whatever happened, these hold.
    async fn check(&self) {
        let counts = self.store.counts().await.expect("counts");
        let batch = self.store.batch(self.batch).await.expect("read");
        for status in Status::ALL {
            let there = self.in_status(status).len() as u64;
            assert_eq!(counts.of(status), there, "{status}: the counts have drifted");
            if let Some(batch) = &batch {
                let of = |j: &&Modelled| j.state.status == status && j.batch == self.batch;
                let there = self.jobs.values().filter(of).count() as u64;
                assert_eq!(
                    batch.by_status[status.as_str()],
                    there,
                    "{status}: the batch's counts have drifted"
                );
            }
        }
        self.check_waiting().await;
        for (id, job) in &self.jobs {
            let row = self.store.job(*id).await.expect("read").expect("there");
            let history = self.store.history(&row).await.expect("history");
            assert_eq!(history.attempts.len() as u32, job.state.attempt, "an attempt each");
            let mut status = None;
            for step in &history.transitions {
                assert_eq!(
                    step.from, status,
                    "each step follows from the one before: {:?}",
                    history.transitions
                );
                status = Some(step.to);
            }
            assert_eq!(status, Some(job.state.status), "the last step led here");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_machine_says(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let dir = TempDir::new().expect("folder");
            let mut config = harness::config(dir.path());
            harness::arrange(&mut config, dir.path()).await;
            let store = Store::open(&config).await.expect("store");
            let mut world = World { store, jobs: BTreeMap::new(), batch: Uuid::nil() };
            for op in ops {
                world.run(op).await;
            }
            // Nothing that waits for others is forgotten, and no place of a limit.
            world.run(Op::Resolve).await;
            world.run(Op::ClaimLimited { all: false }).await;
            world.check().await;
            world.store.close().await;
        });
    }
}

/// A store, and the jobs that it has been given with the unique key "once".
struct Keyed(Store);

impl Keyed {
    async fn open(dir: &TempDir) -> Self {
        let mut config = harness::config(dir.path());
        harness::arrange(&mut config, dir.path()).await;
        Self(Store::open(&config).await.expect("store"))
    }

    async fn enqueue(&self) -> Written {
        let job = Enqueue {
            unique_key: Some("once".into()),
            ..Enqueue::of("echo", "test", serde_json::json!({}), &Policy::DEFAULT)
        };
        match self.0.enqueue(Batch::of(vec![job], 100)).await.expect("written") {
            Enqueued::Written(mut written) => written.pop().expect("one"),
            full @ Enqueued::Full { .. } => panic!("{full:?}"),
        }
    }

    /// One that fails for good.
    async fn failed(&self) -> JobId {
        let row = self.enqueue().await.into_row();
        self.ended(
            &row,
            Event::Fail {
                epoch: 1,
                error: JobError::new(ErrorCode::Validation, "it failed"),
                delay_ms: 0,
            },
        )
        .await;
        row.job.id
    }

    async fn ended(&self, row: &JobRow, event: Event) {
        let claim = Claim {
            seqs: vec![row.seq],
            worker: "worker".into(),
            lease_ms: 60_000,
            limited: Vec::new(),
            external: false,
        };
        assert_eq!(self.0.claim(claim).await.expect("claimed").len(), 1);
        self.0
            .change(row.job.id, event, "test".into(), "test".into())
            .await
            .expect("ended");
    }

    async fn retry(&self, id: JobId) -> Result<Changed, StoreError> {
        let at = from_millis(self.0.clock().await.expect("clock"));
        self.0
            .change(id, Event::Retry { at }, "test".into(), "test".into())
            .await
    }
}

#[tokio::test]
async fn a_retry_beside_an_unfinished_job_with_its_key_is_refused() {
    let dir = TempDir::new().expect("folder");
    let keyed = Keyed::open(&dir).await;
    let first = keyed.failed().await;
    assert!(matches!(keyed.enqueue().await, Written::New(_)));
    let refused = keyed.retry(first).await.expect_err("two unfinished jobs with one key");
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    keyed.0.close().await;
}

#[tokio::test]
async fn a_unique_key_leads_to_its_unfinished_job_even_when_that_is_not_the_newest() {
    let dir = TempDir::new().expect("folder");
    let keyed = Keyed::open(&dir).await;
    let first = keyed.failed().await;
    let second = keyed.enqueue().await.into_row();
    keyed.ended(&second, Event::Abort).await;
    keyed.retry(first).await.expect("no other is unfinished");
    match keyed.enqueue().await {
        Written::Existing(row) => assert_eq!(row.job.id, first),
        Written::New(row) => panic!("a second unfinished job: {row:?}"),
    }
    keyed.0.close().await;
}
