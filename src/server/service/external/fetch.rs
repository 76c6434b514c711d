//! Jobs for workers outside.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Known, no_worker};
use crate::domain::error::Problem;
use crate::domain::job::Lane;
use crate::domain::machine::Event;
use crate::domain::status::Status;
use crate::domain::user::{Actor, Want};
use crate::domain::work::{Assigned, FetchWish, Fetched};
use crate::server::queue::{Change, Hold, LANE_MS};
use crate::server::service::outcome::reason;
use crate::server::service::{Service, broken, require};
use crate::server::store::StoreError;
use crate::server::store::claim::{Claim, Claimed};
use crate::server::store::external::heads::{Head, Narrow};
use crate::server::store::ops::Lease;

/// Looks in a row that find jobs which another takes first, or which a limit refuses.
const TRIES: usize = 4;
/// What comes within so short a time is looked for together.
const SETTLE: Duration = Duration::from_millis(10);

impl Service {
    /// Takes jobs for a worker, no more than it has room for: the first ones of its kinds, by lane and by the turns of their owners.
    /// Waits for one, if it is told to; once the server begins to stop nothing is given any more.
    pub async fn fetch(
        &self,
        actor: &Actor,
        id: &str,
        wish: FetchWish,
        closing: &CancellationToken,
    ) -> Result<Fetched, Problem> {
        wish.checked()?;
        let Known { kinds, slots, .. } = self.worker(actor, id).await?;
        if let Some(other) = wish.kinds.iter().find(|kind| !kinds.contains(kind)) {
            let detail = format!(
                "kinds names \"{other}\", which worker {id} has not declared; allowed: {}",
                kinds.join(", ")
            );
            return Err(Problem::invalid("kinds", detail));
        }
        let kinds = if wish.kinds.is_empty() { kinds } else { wish.kinds };
        for kind in &kinds {
            require(actor, Want::Work { kind: Some(kind) })?;
        }
        self.know_kinds(kinds.iter().map(String::as_str)).await?;
        let until = Instant::now() + Duration::from_secs(wish.wait.into());
        // Before the first look: what comes after it is heard.
        let mut changes = self.bus.changes();
        loop {
            if closing.is_cancelled() {
                return Ok(Fetched::default());
            }
            let jobs = self.take_for(id, &kinds, wish.max as usize, slots as usize).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !jobs.is_empty() || left.is_zero() {
                return Ok(Fetched { jobs });
            }
            let comes = async {
                loop {
                    match changes.recv().await {
                        Ok(Change::Job(job)) if job.status == Status::Pending && kinds.contains(&job.kind) => return,
                        Ok(Change::Many) | Err(RecvError::Lagged(_)) => return,
                        Ok(_) => {}
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                () = closing.cancelled() => return Ok(Fetched::default()),
                // More may come at the same moment: one look is for all of them.
                () = comes => tokio::time::sleep(SETTLE.min(left)).await,
                () = tokio::time::sleep(left.min(self.workers.rules.poll)) => {}
            }
        }
    }

    /// Takes jobs such that those whose worker goes away in the middle wait again at once.
    async fn take_for(&self, id: &str, kinds: &[String], max: usize, slots: usize) -> Result<Vec<Assigned>, Problem> {
        let (sender, receiver) = oneshot::channel();
        let (service, worker, kinds) = (self.clone(), id.to_string(), kinds.to_vec());
        self.doing.spawn(async move {
            let taken = service.take(&worker, kinds, max, slots).await;
            if let Err(Ok(taken)) = sender.send(taken) {
                let leases: Vec<Lease> = taken.into_iter().map(|(lease, _)| lease).collect();
                service
                    .hand_back(&worker, &leases, "its worker went away before it had it")
                    .await;
            }
        });
        let mut taking = Taking {
            receiver,
            service: self,
            worker: id,
        };
        let taken = (&mut taking.receiver).await.map_err(|error| broken(&error))??;
        Ok(taken.into_iter().map(|(_, job)| job).collect())
    }

    async fn take(
        &self,
        worker: &str,
        mut kinds: Vec<String>,
        max: usize,
        slots: usize,
    ) -> Result<Vec<(Lease, Assigned)>, Problem> {
        let mut turns = self.workers.turns.lock().await;
        let limits = self.catalog.limits(&kinds, &self.workers.rules.limits);
        let mut jobs = Vec::new();
        let mut tries = 0;
        while tries < TRIES {
            kinds = self.store.external_waiting(&kinds, &limits).await?;
            if kinds.is_empty() {
                return Ok(Vec::new());
            }
            let (holds, suspect) = self.store.external_leases(worker).await?;
            let max = max.min(slots.saturating_sub(holds.len()));
            let narrow = Narrow {
                member_max: limits.member,
                // One at a time.
                suspects: !suspect,
            };
            let found = self.first_of(&kinds, max, narrow, &mut turns).await?;
            if found.is_empty() {
                return Ok(Vec::new());
            }
            let claim = Claim {
                seqs: found.clone(),
                worker: worker.into(),
                lease_ms: self.workers.lease_ms(),
                limited: Vec::new(),
                external: true,
            };
            let (mut claimed, refused) = self.store.claim_limited(claim, limits.clone()).await?;
            claimed.sort_by_key(|job| found.iter().position(|seq| *seq == job.lease.seq));
            jobs = claimed;
            if !jobs.is_empty() {
                break;
            }
            if refused.is_empty() && self.store.external_worker(worker).await?.is_none() {
                self.forget_worker(worker);
                return Err(no_worker(worker));
            }
            // What a limit of its kind keeps back hides the other kinds' jobs no longer.
            let before = kinds.len();
            kinds.retain(|kind| !refused.iter().any(|one| one.hold == Hold::Kind(kind.clone())));
            tries += usize::from(kinds.len() == before);
        }
        drop(turns);
        // Workers within pass them over; this spares them that.
        let seqs: Vec<i64> = jobs.iter().map(|job| job.lease.seq).collect();
        self.queue.withdraw(&seqs).await;
        let mut given = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            let lease = job.lease;
            match self.give(worker, job).await {
                Ok(job) => given.extend(job),
                Err(problem) => {
                    let given = given.into_iter().map(|(lease, _): (Lease, Assigned)| lease);
                    let back: Vec<Lease> = given.chain([lease]).chain(jobs.map(|job| job.lease)).collect();
                    self.hand_back(worker, &back, "it could not be given to its worker")
                        .await;
                    return Err(problem);
                }
            }
        }
        Ok(given)
    }

    /// A job as its worker is given it; none: it failed, since its secrets can't be read.
    async fn give(&self, worker: &str, claimed: Claimed) -> Result<Option<(Lease, Assigned)>, Problem> {
        let Claimed {
            lease,
            job,
            args,
            timeout_s,
            checkpoint,
            ..
        } = claimed;
        let opened = match self.opened_args(&job.kind, args) {
            Ok(opened) => opened,
            Err(error) => {
                let epoch = lease.epoch;
                let event = Event::Fail {
                    epoch,
                    error,
                    delay_ms: 0,
                };
                let (by, reason) = (worker.to_string(), reason(&event));
                match self.store.end(lease.id, event, by, reason, None).await {
                    Ok(changed) => self.settle(&changed).await,
                    Err(error) if error.is_stale() => {}
                    Err(error) => return Err(error.into()),
                }
                return Ok(None);
            }
        };
        self.workers.keep(lease, Some(opened.veil));
        self.bus.change(Change::Job(job.clone()));
        let job = Arc::unwrap_or_clone(job);
        let assigned = Assigned {
            id: job.id,
            epoch: lease.epoch,
            kind: job.kind,
            args: opened.args,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            queue: job.queue,
            priority: job.priority,
            owner: job.owner,
            batch: job.batch,
            created_at: job.created_at,
            timeout_s,
            checkpoint,
        };
        Ok(Some((lease, assigned)))
    }

    /// The jobs that go first, at most `max`: those that a person has put before all others, then lane by lane with ageing, in a
    /// lane by the turns of the owners, of one owner as they came. Of those that may kill their worker it gets one at a time.
    async fn first_of(
        &self,
        kinds: &[String],
        max: usize,
        narrow: Narrow,
        turns: &mut HashMap<(String, Lane), String>,
    ) -> Result<Vec<i64>, StoreError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut picks = Picks::default();
        for kind in kinds {
            picks.front.extend(self.store.external_front(kind, max, narrow).await?);
            for lane in Lane::ALL {
                let after = turns.get(&(kind.clone(), lane)).map(String::as_str).unwrap_or_default();
                let (heads, last) = self.store.external_heads(kind, lane, after, max, narrow).await?;
                if !heads.is_empty() {
                    let owners = heads.into_iter().map(VecDeque::from).collect();
                    picks.lines.insert((lane, kind.clone()), owners);
                } else if let Some(last) = last {
                    // Something holds all of these back; the next look begins behind them.
                    turns.insert((kind.clone(), lane), last);
                }
            }
        }
        let (seqs, served) = picks.first(max, narrow.suspects);
        turns.extend(served);
        Ok(seqs)
    }
}

/// Jobs on their way to a worker: should its request be gone when they arrive, they wait again.
struct Taking<'a> {
    receiver: oneshot::Receiver<Result<Vec<(Lease, Assigned)>, Problem>>,
    service: &'a Service,
    worker: &'a str,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Ok(taken)) = self.receiver.try_recv()
            && !taken.is_empty()
        {
            let (service, worker) = (self.service.clone(), self.worker.to_string());
            let leases: Vec<Lease> = taken.into_iter().map(|(lease, _)| lease).collect();
            self.service.doing.spawn(async move {
                service
                    .hand_back(&worker, &leases, "its worker went away before it had it")
                    .await;
            });
        }
    }
}

/// What could go, and in which order it does.
#[derive(Default)]
struct Picks {
    front: VecDeque<Head>,
    /// By lane and kind: the owners in the order of their turns, each with its jobs.
    lines: BTreeMap<(Lane, String), VecDeque<VecDeque<Head>>>,
}

impl Picks {
    /// The first ones, and by kind and lane the owner whose turn was the last. `alone`: one that may kill its worker may be among
    /// them.
    fn first(mut self, max: usize, mut alone: bool) -> (Vec<i64>, HashMap<(String, Lane), String>) {
        let (mut seqs, mut served) = (Vec::new(), HashMap::new());
        let mut goes = |head: &Head| !head.suspect || std::mem::take(&mut alone);
        while let Some(head) = self.front.pop_front() {
            if seqs.len() < max && goes(&head) {
                seqs.push(head.seq);
            }
        }
        while seqs.len() < max {
            // The lane whose longest waiting job has aged furthest.
            let aged = self.lines.iter().filter_map(|((lane, kind), owners)| {
                let oldest = owners.iter().flatten().map(|head| head.run_at).min()?;
                Some((oldest + lane.rank() * LANE_MS, (*lane, kind.clone())))
            });
            let Some((_, line)) = aged.min() else { break };
            let Some(owners) = self.lines.get_mut(&line) else { break };
            let Some(mut jobs) = owners.pop_front() else { break };
            while let Some(head) = jobs.pop_front() {
                if goes(&head) {
                    seqs.push(head.seq);
                    served.insert((line.1.clone(), line.0), head.owner);
                    break;
                }
            }
            if !jobs.is_empty() {
                owners.push_back(jobs);
            }
            if owners.is_empty() {
                self.lines.remove(&line);
            }
        }
        (seqs, served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64, owner: &str) -> Head {
        Head {
            seq,
            owner: owner.into(),
            run_at: seq,
            suspect: false,
        }
    }

    fn line(owners: &[&[Head]]) -> VecDeque<VecDeque<Head>> {
        owners.iter().map(|jobs| jobs.iter().cloned().collect()).collect()
    }

    fn picks(lines: Vec<(Lane, VecDeque<VecDeque<Head>>)>) -> Picks {
        Picks {
            front: VecDeque::new(),
            lines: lines
                .into_iter()
                .map(|(lane, line)| ((lane, "a.b".into()), line))
                .collect(),
        }
    }

    #[test]
    fn owners_take_turns_and_the_last_one_is_told() {
        let many: Vec<Head> = (1..=9).map(|n| head(n, "noisy")).collect();
        let normal = line(&[&many, &[head(20, "quiet"), head(21, "quiet")]]);
        let (seqs, served) = picks(vec![(Lane::Normal, normal)]).first(5, false);
        assert_eq!(seqs, [1, 20, 2, 21, 3]);
        assert_eq!(served[&("a.b".to_string(), Lane::Normal)], "noisy");
    }

    #[test]
    fn lanes_go_first_to_last_and_waiting_raises_a_job() {
        let (high, low) = (head(1_000, "a"), head(2, "a"));
        let both = |low: &Head| {
            picks(vec![
                (Lane::High, line(&[std::slice::from_ref(&high)])),
                (Lane::Low, line(&[std::slice::from_ref(low)])),
            ])
        };
        assert_eq!(both(&low).first(2, false).0, [1_000, 2]);
        let aged = Head {
            run_at: high.run_at - 3 * LANE_MS,
            ..low
        };
        assert_eq!(both(&aged).first(2, false).0, [2, 1_000]);
        let mut first = both(&aged);
        first.front.push_back(head(77, "z"));
        assert_eq!(first.first(2, false).0, [77, 2]);
    }

    #[test]
    fn of_those_that_may_kill_their_worker_it_gets_one() {
        let suspect = |seq| Head {
            suspect: true,
            ..head(seq, "a")
        };
        let jobs = [suspect(1), suspect(2), head(3, "a"), suspect(4)];
        assert_eq!(picks(vec![(Lane::Normal, line(&[&jobs]))]).first(9, true).0, [1, 3]);
        assert_eq!(picks(vec![(Lane::Normal, line(&[&jobs]))]).first(9, false).0, [3]);
    }
}
