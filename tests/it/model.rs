//! Random operations on the store and on the state machine must agree: what the set statements write for many jobs is what
//! the machine says about each, whatever came before, and the counts and histories follow.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;
use windlass::domain::error::{ErrorCode, JobError};
use windlass::domain::job::JobId;
use windlass::domain::kind::Policy;
use windlass::domain::machine::{Event, Refused, State, apply};
use windlass::domain::queue::Entry;
use windlass::domain::status::Status;
use windlass::domain::time::from_millis;
use windlass::server::store::batches::NewBatch;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued, Written};
use windlass::server::store::finish::Finish;
use windlass::server::store::ops::Lease;
use windlass::server::store::{Store, StoreError};

use crate::harness;

/// Something that happens to some job; the numbers choose which.
#[derive(Clone, Debug)]
enum Op {
    Enqueue {
        later: bool,
    },
    Claim,
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
    Person {
        which: usize,
        what: usize,
    },
    Rescue,
    Promote,
    Delete {
        which: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let which = || 0_usize..6;
    let op = prop_oneof![
        3 => any::<bool>().prop_map(|later| Op::Enqueue { later }),
        4 => Just(Op::Claim),
        4 => (which(), prop::bool::weighted(0.2)).prop_map(|(which, stale)| Op::Finish { which, stale }),
        3 => (which(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(which, retryable, stale)| Op::Fail { which, retryable, stale }),
        1 => which().prop_map(|which| Op::HandBack { which }),
        1 => which().prop_map(|which| Op::Stopped { which }),
        5 => (which(), 0_usize..6).prop_map(|(which, what)| Op::Person { which, what }),
        1 => Just(Op::Rescue),
        2 => Just(Op::Promote),
        1 => which().prop_map(|which| Op::Delete { which }),
    ];
    prop::collection::vec(op, 1..60)
}

/// A job as the machine has it.
struct Modelled {
    seq: i64,
    batch: Uuid,
    state: State,
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
        self.jobs.get_mut(&id).expect("known").state = said;
    }

    async fn stored(&self, id: JobId) -> State {
        self.store.job(id).await.expect("read").expect("there").state
    }

    async fn run(&mut self, op: Op) {
        match op {
            Op::Enqueue { later } => {
                let policy = Policy {
                    max_attempts: 2,
                    ..Policy::DEFAULT
                };
                let kind = ["b", "a", "c"][self.jobs.len() % 3];
                let job = Enqueue {
                    queue: if later { "later" } else { "default" }.into(),
                    delay_ms: later.then_some(3_600_000),
                    ..Enqueue::of(kind, "test", serde_json::json!({}), &policy)
                };
                // All jobs belong to a batch that begins with the first one.
                let starts = self.jobs.is_empty().then(|| NewBatch {
                    id: Uuid::now_v7(),
                    name: "model".into(),
                    owner: "test".into(),
                });
                self.batch = starts.as_ref().map_or(self.batch, |batch| batch.id);
                let batch = Batch {
                    jobs: vec![Enqueue {
                        batch: Some(self.batch),
                        ..job
                    }],
                    queue_max: 1_000,
                    starts,
                };
                let Enqueued::Written(written) = self.store.enqueue(batch).await.expect("written") else {
                    panic!("the queue is not full");
                };
                for one in written {
                    let Written::New(row) = one else {
                        panic!("no key, no other job")
                    };
                    assert_eq!(
                        self.stored(row.job.id).await,
                        row.state,
                        "what is answered is what is stored"
                    );
                    self.jobs.insert(
                        row.job.id,
                        Modelled {
                            seq: row.seq,
                            batch: self.batch,
                            state: row.state,
                        },
                    );
                }
            }
            Op::Claim => {
                let seqs = self.jobs.values().map(|j| j.seq).collect();
                let claimed = self
                    .store
                    .claim(Claim {
                        seqs,
                        worker: "worker".into(),
                        lease_ms: 60_000,
                        limited: Vec::new(),
                    })
                    .await
                    .expect("claimed");
                let claimed: HashMap<JobId, u64> = claimed.into_iter().map(|c| (c.lease.id, c.lease.epoch)).collect();
                let now = from_millis(self.now().await);
                for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                    match apply(&self.jobs[&id].state, &Event::Claim, now) {
                        Ok((next, _)) => {
                            assert_eq!(claimed.get(&id), Some(&next.epoch));
                            let stored = self.stored(id).await;
                            self.agree(id, next, &stored, &"claim");
                        }
                        Err(_) => assert!(!claimed.contains_key(&id), "{:?}", self.jobs[&id].state),
                    }
                }
            }
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
                        cpu_ms: 0,
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
            Op::Person { which, what } => {
                let Some(id) = self.nth(which) else { return };
                let at = from_millis(self.now().await);
                let event = match what {
                    0 => Event::RunNow,
                    1 => Event::Pause { checkpoints: false },
                    2 => Event::Resume,
                    3 => Event::Cancel,
                    4 => Event::Abort,
                    _ => Event::Retry { at },
                };
                self.change(id, event).await;
            }
            Op::Rescue => {
                let running: Vec<JobId> = self.in_status(Status::Running);
                let rescued = self.store.rescue(true, Vec::new()).await.expect("rescued");
                assert_eq!(rescued.len(), running.len());
                self.take_over(rescued, &Event::LeaseLost).await;
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
                self.store.delete(id).await.expect("deleted");
                self.jobs.remove(&id);
                assert!(self.store.job(id).await.expect("read").is_none());
            }
        }
    }

    fn in_status(&self, status: Status) -> Vec<JobId> {
        let jobs = self.jobs.iter().filter(|(_, j)| j.state.status == status);
        jobs.map(|(id, _)| *id).collect()
    }

    async fn take_over(&mut self, changes: Vec<windlass::server::store::ops::Changed>, event: &Event) {
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
            world.check().await;
            world.store.close().await;
        });
    }
}
