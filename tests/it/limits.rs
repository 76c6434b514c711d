//! Limits: how many jobs run at the same time, and how many begin within a time, whoever takes them.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};
use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::domain::job::NewJob;
use windlass::domain::kind::{Policy, Rate};
use windlass::domain::queue::Hold;
use windlass::domain::user::{Actor, Role};
use windlass::server::config::Config;
use windlass::server::store::Store;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued};
use windlass::server::store::limits::Limits;

use crate::harness::{self, Server, gate, unique, until};

/// A server with more slots than any limit, and where several can work together a second one.
async fn servers(change: impl Fn(&mut Config)) -> (Server, Option<Server>) {
    let change = |c: &mut Config| {
        c.worker_concurrency = 8;
        change(c);
    };
    let one = Server::with(change).await;
    let other = match harness::arrangement() {
        "redis" => Some(Server::on(one.dir.clone(), true, change).await),
        _ => None,
    };
    (one, other)
}

async fn stop((one, other): (Server, Option<Server>)) {
    if let Some(other) = other {
        other.stop().await;
    }
    one.stop().await;
}

/// Jobs of `role` that wait at a gate while they run.
async fn gated(s: &Server, owner: &str, role: Role, job: &NewJob, n: usize) -> Vec<String> {
    let actor = Actor::named(owner, role);
    let mut ids = Vec::new();
    for _ in 0..n {
        let enqueued = s.service.enqueue(&actor, job.clone()).await.expect("taken in");
        ids.push(enqueued.job.id.to_string());
    }
    ids
}

async fn running(s: &Server, ids: &[String]) -> usize {
    let jobs = join_all(ids.iter().map(|id| s.job(id))).await;
    jobs.iter().filter(|job| job["status"] == "running").count()
}

async fn until_running(s: &Server, ids: &[String], n: usize) {
    until("jobs run", async || (running(s, ids).await == n).then_some(())).await;
}

fn moment(text: &Value) -> DateTime<FixedOffset> {
    DateTime::parse_from_rfc3339(text.as_str().expect("text")).expect("a moment")
}

/// Lets all of them through, and says how many ran at the same time at the most.
async fn peak(s: &Server, ids: &[String], gate_name: &str) -> usize {
    gate(gate_name).add_permits(ids.len());
    let mut moments = Vec::new();
    for id in ids {
        let job = s.until(id, "completed").await;
        // At the same moment ends come first: a place that is taken was free.
        moments.push((moment(&job["completed_at"]), 0));
        moments.push((moment(&job["started_at"]), 1));
    }
    moments.sort();
    let (mut now, mut most) = (0_usize, 0);
    for (_, began) in moments {
        now = if began == 1 { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    most
}

#[tokio::test]
async fn a_member_has_so_many_running_and_is_in_nobodys_way() {
    let both = servers(|c| c.member_max_jobs = 2).await;
    let s = &both.0;
    let names = [unique(), unique(), unique()];
    let job = |n: usize| NewJob::of("gate", json!({ "name": names[n] }));
    let ada = gated(s, "ada", Role::Member, &job(0), 6).await;
    let bob = gated(s, "bob", Role::Member, &job(1), 6).await;
    let admin = gated(s, "admin", Role::Admin, &job(2), 4).await;
    // Those of the admin came last; none of them waits for a member's.
    until_running(s, &admin, 4).await;
    until_running(s, &ada, 2).await;
    until_running(s, &bob, 2).await;
    // Which of them stood at the gate first is not said.
    gate(&names[2]).add_permits(admin.len());
    for id in &admin {
        s.until(id, "completed").await;
    }
    assert_eq!((running(s, &ada).await, running(s, &bob).await), (2, 2));
    assert_eq!(peak(s, &ada, &names[0]).await, 2);
    assert_eq!(peak(s, &bob, &names[1]).await, 2);
    stop(both).await;
}

#[tokio::test]
async fn no_more_run_in_all_than_the_whole_system_may() {
    let both = servers(|c| c.global_max_jobs = Some(3)).await;
    let s = &both.0;
    let name = unique();
    let job = NewJob::of("gate", json!({ "name": name }));
    let mut ids = gated(s, "admin", Role::Admin, &job, 8).await;
    ids.extend(gated(s, "ada", Role::Member, &job, 4).await);
    until_running(s, &ids, 3).await;
    // One ends and another begins, again and again.
    for done in 1..=4 {
        gate(&name).add_permits(1);
        until("another one has run", async || {
            let jobs = s.get("/api/jobs?type=gate&status=completed").await;
            (jobs["total"] == done).then_some(())
        })
        .await;
        until_running(s, &ids, 3).await;
    }
    assert_eq!(peak(s, &ids, &name).await, 3);
    stop(both).await;
}

#[tokio::test]
async fn two_of_a_kind_and_one_of_a_key() {
    let both = servers(|c| {
        c.kind_max_jobs.insert("gate".into(), 2);
    })
    .await;
    let s = &both.0;
    let name = unique();
    let kind = gated(s, "admin", Role::Admin, &NewJob::of("gate", json!({ "name": name })), 7).await;
    until_running(s, &kind, 2).await;
    assert_eq!(peak(s, &kind, &name).await, 2);
    let name = unique();
    let keyed = NewJob {
        concurrency_key: Some("one at a time".into()),
        ..NewJob::of("gate", json!({ "name": name }))
    };
    let keyed = gated(s, "admin", Role::Admin, &keyed, 5).await;
    until_running(s, &keyed, 1).await;
    assert_eq!(peak(s, &keyed, &name).await, 1);
    stop(both).await;
}

/// Two processes' worth of claims at the same moment, of kinds that nobody has taken before.
#[tokio::test]
async fn limits_and_rates_hold_for_all_who_claim_at_the_same_moment() {
    const HOUR: i64 = 3_600_000;
    let dir = TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let one = Store::open(&config).await.expect("store");
    let other = match harness::arrangement() {
        "sqlite" => one.clone(),
        _ => Store::open_beside(&config).await.expect("store"),
    };
    let claim = |seqs: &[i64]| Claim {
        seqs: seqs.to_vec(),
        worker: "worker".into(),
        lease_ms: 60_000,
        limited: Vec::new(),
        external: false,
    };
    for round in 0..12 {
        let (rated, limited) = (format!("rated{round}"), format!("limited{round}"));
        let rate = Rate {
            jobs: 10,
            per_ms: HOUR as u64,
        };
        let limits = Limits {
            all: None,
            member: 3,
            kinds: BTreeMap::from([(rated.clone(), (None, Some(rate))), (limited.clone(), (Some(3), None))]),
        };
        let of = |kind: &str| Enqueue::of(kind, "test", json!({}), &Policy::DEFAULT);
        let jobs = (0..80).map(|n| of(if n < 40 { &rated } else { &limited })).collect();
        let Enqueued::Written(written) = one.enqueue(Batch::of(jobs, 10_000)).await.expect("written") else {
            panic!("there is room");
        };
        let seqs: Vec<i64> = written.into_iter().map(|one| one.into_row().seq).collect();
        let began = one.clock().await.expect("clock") / HOUR;
        // Each wants a part of its own, so that only the limits bring them together.
        let stores = [&one, &other, &one, &other];
        let claims = stores.iter().enumerate().map(|(n, store)| {
            let part: Vec<i64> = seqs.iter().skip(n).step_by(stores.len()).copied().collect();
            store.claim_limited(claim(&part), limits.clone())
        });
        let (mut by_kind, mut refused) = (BTreeMap::<String, usize>::new(), Vec::new());
        for answer in join_all(claims).await {
            let (claimed, held) = answer.expect("claimed");
            for one in claimed {
                *by_kind.entry(one.job.kind.clone()).or_default() += 1;
            }
            refused.extend(held);
        }
        // At the turn of an hour another window begins.
        if one.clock().await.expect("clock") / HOUR == began {
            let expected = BTreeMap::from([(rated.clone(), 10), (limited.clone(), 3)]);
            assert_eq!(by_kind, expected, "in round {round}");
        }
        let taken: usize = by_kind.values().sum();
        assert_eq!(taken + refused.len(), seqs.len());
        for held in refused {
            assert!([&rated, &limited].map(|k| Hold::Kind(k.clone())).contains(&held.hold));
            assert!((1..=HOUR).contains(&held.wait_ms), "{}", held.wait_ms);
        }
    }
    other.close().await;
    one.close().await;
}
