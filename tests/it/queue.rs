//! The index in Redis gives the same jobs in the same order as the one in memory, whatever happens to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface, ListInterface};
use fred::types::Builder;
use fred::types::config::Config;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;
use windlass::domain::job::Lane;
use windlass::domain::kind::Policy;
use windlass::domain::time::from_millis;
use windlass::server::config::RedisUrl;
use windlass::server::queue::index::Index;
use windlass::server::queue::redis::{Link, RedisQueue};
use windlass::server::queue::{Away, Cell, Entry, Hold, Queue};
use windlass::server::store::Store;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued, Written};
use windlass::server::store::limits::Limits;

use crate::harness;

const OWNERS: [&str; 3] = ["ada", "bob", "cy"];
/// Some jobs of each of them share it.
const KEY: &str = "one";

#[derive(Clone, Debug)]
enum Op {
    Announce {
        seq: i64,
        lane: u8,
        since: i64,
        owner: usize,
        keyed: bool,
    },
    Withdraw {
        seq: i64,
    },
    /// All but the first `fit` go back, as those that a limit refuses.
    Take {
        max: usize,
        suspect: bool,
        fit: usize,
    },
    Hold {
        hold: usize,
    },
    Release {
        hold: usize,
    },
    Turn {
        lane: u8,
        owner: usize,
        keyed: bool,
    },
}

/// Those of the owners, of the key, and one behind which the lines of all of them stand.
fn hold(n: usize) -> Hold {
    match OWNERS.get(n) {
        Some(owner) => Hold::Owner((*owner).into()),
        None if n == OWNERS.len() => Hold::Key(KEY.into()),
        None => Hold::All,
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let seq = || 1_i64..60;
    let owner = || 0..OWNERS.len();
    let hold = || 0..OWNERS.len() + 2;
    // Long ago; or later than any moment at which a job is written down, as if those of the lane above were always older.
    let later = 9_000_000_000_000_i64;
    let since = || prop_oneof![4 => 0_i64..2_000_000, 1 => later..later + 2_000_000];
    let op = prop_oneof![
        8 => (seq(), 0_u8..5, since(), owner(), any::<bool>())
            .prop_map(|(seq, lane, since, owner, keyed)| Op::Announce { seq, lane, since, owner, keyed }),
        1 => seq().prop_map(|seq| Op::Withdraw { seq }),
        4 => (1_usize..6, any::<bool>(), 0_usize..6)
            .prop_map(|(max, suspect, fit)| Op::Take { max, suspect, fit }),
        1 => hold().prop_map(|hold| Op::Hold { hold }),
        2 => hold().prop_map(|hold| Op::Release { hold }),
        3 => (0_u8..4, owner(), any::<bool>()).prop_map(|(lane, owner, keyed)| Op::Turn { lane, owner, keyed }),
    ];
    prop::collection::vec(op, 1..80)
}

fn entry(seq: i64, lane: u8, since: i64, owner: usize) -> Entry {
    let cell = Cell {
        queue: "default".into(),
        kind: "echo".into(),
        owner: OWNERS[owner].into(),
        key: None,
    };
    Entry { seq, lane, since, cell }
}

fn keyed_entry(seq: i64, lane: u8, since: i64, owner: usize, keyed: bool) -> Entry {
    let mut one = entry(seq, lane, since, owner);
    one.cell.key = keyed.then(|| KEY.into());
    one
}

/// In their lane, that is: a retry goes before fresh jobs that have waited up to five minutes longer, and before none of the lane
/// above.
#[test]
fn retries_go_before_fresh_jobs_of_their_lane() {
    const MINUTE: i64 = 60_000;
    let place = |seq: i64, lane, attempt: u32, since: i64| {
        let Entry { cell, .. } = entry(seq, 0, 0, 0);
        Entry::new(seq, lane, false, from_millis(since), attempt, cell)
    };
    let mut index = Index::default();
    for one in [
        place(1, Lane::Normal, 0, 10 * MINUTE),
        place(2, Lane::Normal, 0, 12 * MINUTE),
        place(3, Lane::Normal, 1, 16 * MINUTE),
        place(4, Lane::High, 0, 16 * MINUTE),
    ] {
        index.insert(&one);
    }
    let order: Vec<i64> = index.take(9, 0, false).into_iter().map(|one| one.entry.seq).collect();
    assert_eq!(order, [4, 1, 3, 2]);
}

fn url() -> String {
    std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL")
}

async fn redis() -> RedisQueue {
    redis_of(&harness::unique()).await
}

async fn redis_of(prefix: &str) -> RedisQueue {
    let url = RedisUrl::parse(&url()).expect("an address");
    RedisQueue::new(Link::connect(&url, prefix).await.expect("Redis"))
}

/// Waiting in vain is what workers do all the time.
#[tokio::test]
async fn a_queue_that_stays_empty_is_well() {
    if harness::arrangement() != "redis" {
        return;
    }
    let redis = redis().await;
    assert_eq!(redis.take(5, true, &AtomicBool::default()).await, Ok(Vec::new()));
    assert!(redis.health().is_ok());
    let job = [entry(1, 0, 0, 0)];
    let rests = AtomicBool::default();
    let (taken, ()) = tokio::join!(redis.take(5, true, &rests), redis.announce(&job));
    assert_eq!(taken, Ok(vec![1]));
    redis.close().await;
}

/// Nobody waits for an announcement; what comes behind it finds it done all the same.
#[tokio::test]
async fn what_was_announced_can_be_taken_back_and_outlives_who_said_it() {
    if harness::arrangement() != "redis" {
        return;
    }
    let prefix = harness::unique();
    let (one, other) = (redis_of(&prefix).await, redis_of(&prefix).await);
    let jobs: Vec<Entry> = (0..5_000).map(|n| entry(n, 0, n, 0)).collect();
    one.announce(&jobs).await;
    one.withdraw(&[4_999]).await;
    assert_eq!(one.waiting().await, Ok(4_999));
    let more: Vec<Entry> = (5_000..10_000).map(|n| entry(n, 0, n, 0)).collect();
    one.announce(&more).await;
    one.close().await;
    assert_eq!(other.waiting().await, Ok(9_999));
    other.close().await;
}

/// A worker that went away while it waited leaves a question behind, which must not swallow what is meant for others.
#[tokio::test]
async fn a_token_that_nobody_here_waits_for_goes_back() {
    if harness::arrangement() != "redis" {
        return;
    }
    let prefix = harness::unique();
    let one = redis_of(&prefix).await;
    let client = Builder::from_config(Config::from_url(&url()).expect("an address"))
        .build()
        .expect("a client");
    client.init().await.expect("Redis");
    let rests = AtomicBool::default();
    let waits = one.take(1, true, &rests);
    let gone = tokio::time::timeout(Duration::from_millis(100), waits).await;
    assert!(gone.is_err() && rests.into_inner(), "it waits");
    let wake = format!("{{{prefix}}}:wake");
    client.rpush::<(), _, _>(&wake, "1").await.expect("told");
    harness::until("the token", async || {
        let there: usize = client.llen(&wake).await.expect("an answer");
        (there == 1).then_some(())
    })
    .await;
    client.quit().await.expect("closed");
    one.close().await;
}

/// Whoever empties Redis while it is filled, or cuts it off, leaves an index that is not whole.
#[tokio::test]
async fn an_index_is_whole_when_nothing_was_lost_while_it_was_filled() {
    if harness::arrangement() != "redis" {
        return;
    }
    let prefix = harness::unique();
    let (one, other) = (redis_of(&prefix).await, redis_of(&prefix).await);
    let client = Builder::from_config(Config::from_url(&url()).expect("an address"))
        .build()
        .expect("a client");
    client.init().await.expect("Redis");
    assert_eq!(one.must_rebuild().await, Ok(true));
    assert_eq!(other.must_rebuild().await, Ok(false), "the first one is at it");
    assert_eq!(
        one.must_rebuild().await,
        Ok(true),
        "its own try that failed is in nobody's way"
    );
    assert_eq!(one.fill(&[entry(1, 0, 0, 0)]).await, Ok(()));
    for key in ["filling", "jobs"] {
        client
            .del::<(), _>(format!("{{{prefix}}}:{key}"))
            .await
            .expect("emptied");
    }
    assert_eq!(one.fill(&[entry(2, 0, 0, 0)]).await, Ok(()));
    assert_eq!(one.rebuilt().await, Ok(false));
    assert_eq!(other.must_rebuild().await, Ok(true), "it is not whole");
    assert_eq!(other.fill(&[entry(1, 0, 0, 0), entry(2, 0, 0, 0)]).await, Ok(()));
    assert_eq!(other.rebuilt().await, Ok(true));
    assert_eq!(one.must_rebuild().await, Ok(false));
    client.quit().await.expect("closed");
    one.close().await;
    assert_eq!(one.fill(&[entry(3, 0, 0, 0)]).await, Err(Away));
    other.close().await;
}

/// More lines than one call parks stand before the one that may go.
#[tokio::test]
async fn many_held_lines_are_in_nobodys_way() {
    if harness::arrangement() != "redis" {
        return;
    }
    let redis = redis().await;
    let mut jobs = vec![entry(5_000, 0, 5_000, 1)];
    for n in 0..1_000 {
        let mut held = entry(n, 0, n, 0);
        held.cell.kind = format!("kind{n}");
        jobs.push(held);
    }
    redis.fill(&jobs).await.expect("told");
    redis.hold(&Hold::Owner(OWNERS[0].into()), 600_000).await;
    let taken = harness::until("the one that may go", async || {
        let taken = redis.take(3, false, &AtomicBool::default()).await.expect("an answer");
        (!taken.is_empty()).then_some(taken)
    });
    assert_eq!(taken.await, [5_000]);
    assert_eq!(redis.waiting().await, Ok(1_001));
    redis.close().await;
}

/// One of the kind may run. Each time it ends all that stand behind the limit are let go a few at a time, and all but the first
/// are refused again.
#[tokio::test]
async fn behind_a_limit_lanes_go_in_order_and_every_owner_gets_a_turn() {
    if harness::arrangement() != "redis" {
        return;
    }
    let redis = redis().await;
    let (owners, lows) = (40_i64, 3);
    let job = |seq: i64, lane: u8, since: i64, owner: String| {
        let mut job = entry(seq, lane, since, 0);
        job.cell.owner = owner;
        job
    };
    let low = (0..owners).flat_map(|o| (0..lows).map(move |n| (o, n)));
    let low: Vec<Entry> = low.map(|(o, n)| job(100 * o + n, 3, 10, format!("low{o}"))).collect();
    redis.fill(&low).await.expect("told");
    let limit = Hold::Kind("echo".into());
    // Behind the limit before the high ones come: what stands there first must not go first.
    redis.hold(&limit, 600_000).await;
    assert_eq!(redis.take(9, false, &AtomicBool::default()).await, Ok(Vec::new()));
    let high: Vec<Entry> = (0..5).map(|n| job(10_000 + n, 0, 100, format!("high{n}"))).collect();
    redis.fill(&high).await.expect("told");
    assert_eq!(redis.take(9, false, &AtomicBool::default()).await, Ok(Vec::new()));
    let mut order = Vec::new();
    for _ in 0..high.len() + usize::try_from(owners).expect("few") {
        redis.release(&limit, 1).await;
        let taken = redis.take(9, false, &AtomicBool::default()).await.expect("an answer");
        let (first, refused) = taken.split_first().expect("one that fits");
        redis.settle(&[*first]).await;
        redis.hold(&limit, 600_000).await;
        redis.give_back(refused).await;
        order.push(*first);
    }
    let (high, low) = order.split_at(5);
    assert!(high.iter().all(|seq| *seq >= 10_000), "{order:?}");
    let served: BTreeSet<i64> = low.iter().map(|seq| seq / 100).collect();
    assert_eq!(served, (0..owners).collect(), "{order:?}");
    redis.close().await;
}

/// While the index is away workers ask the database, which leaves out what a limit would refuse.
#[tokio::test]
async fn without_the_index_what_is_held_back_hides_nothing_else() {
    let dir = TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let store = Store::open(&config).await.expect("the database");
    let job = |kind: &str| Enqueue::of(kind, "ada", json!({}), &Policy::DEFAULT);
    let (keyed, own) = (
        Enqueue {
            concurrency_key: Some("one".into()),
            ..job("echo")
        },
        Enqueue {
            member: true,
            ..job("echo")
        },
    );
    let some = |job: Enqueue, n: usize| {
        (0..n).map(move |_| Enqueue {
            id: Uuid::now_v7(),
            ..job.clone()
        })
    };
    let mut jobs: Vec<Enqueue> = some(keyed, 40).collect();
    jobs.extend(some(own, 40));
    jobs.extend(some(job("rare"), 2));
    jobs.push(job("echo"));
    let written = store.enqueue(Batch::of(jobs, 1_000)).await.expect("written");
    let Enqueued::Written(written) = written else {
        panic!("there is room")
    };
    let seqs: Vec<i64> = written
        .iter()
        .map(|w| match w {
            Written::New(row) | Written::Existing(row) => row.seq,
        })
        .collect();
    let mut limits = Limits {
        all: Some(4),
        member: 1,
        kinds: BTreeMap::from([("rare".into(), (Some(1), None))]),
    };
    let claim = Claim {
        seqs: vec![seqs[0], seqs[40], seqs[80]],
        worker: "test".into(),
        lease_ms: 60_000,
        limited: limits.limited(),
        external: false,
    };
    let (claimed, refused) = store.claim_limited(claim, limits.clone()).await.expect("claimed");
    assert_eq!((claimed.len(), refused.len()), (3, 0));
    assert_eq!(store.waiting_heads(4, &limits).await.expect("heads"), [seqs[82]]);
    limits.all = Some(3);
    assert!(store.waiting_heads(4, &limits).await.expect("heads").is_empty());
    store.close().await;
}

async fn compare(ops: Vec<Op>) {
    let redis = redis().await.patient(Duration::from_secs(60));
    let mut memory = Index::default();
    // Whole: without that nothing says that it is a job's turn.
    assert_eq!(
        (redis.must_rebuild().await, redis.rebuilt().await),
        (Ok(true), Ok(true))
    );
    // Of equal turns the first name goes first in Redis, and in memory the first that came.
    for (owner, keyed) in (0..OWNERS.len()).flat_map(|owner| [(owner, false), (owner, true)]) {
        let one = keyed_entry(1_000, 0, 0, owner, keyed);
        memory.insert(&one);
        memory.remove(1_000);
        redis.fill(&[one]).await.expect("told");
        redis.withdraw(&[1_000]).await;
    }
    for op in ops {
        match op {
            Op::Announce {
                seq,
                lane,
                since,
                owner,
                keyed,
            } => {
                let one = keyed_entry(seq, lane, since, owner, keyed);
                memory.insert(&one);
                redis.fill(&[one]).await.expect("told");
            }
            Op::Withdraw { seq } => {
                memory.remove(seq);
                redis.withdraw(&[seq]).await;
            }
            Op::Take { max, suspect, fit } => {
                let mut went = memory.take(max, 0, suspect);
                let expected: Vec<i64> = went.iter().map(|one| one.entry.seq).collect();
                // Where there is nothing it looks, and then waits for more.
                let rests = AtomicBool::default();
                let taking = redis.take(max, suspect, &rests);
                let taken = match expected.is_empty() {
                    true => tokio::time::timeout(Duration::from_millis(60), taking)
                        .await
                        .unwrap_or(Ok(Vec::new())),
                    false => taking.await,
                };
                let taken = taken.expect("an answer");
                assert_eq!(taken, expected);
                let left = taken.len() == max || memory.is_thawing();
                assert_eq!(
                    rests.load(Ordering::Relaxed),
                    !left,
                    "whether anything that may go is left"
                );
                let (fits, back) = taken.split_at(fit.min(taken.len()));
                redis.settle(fits).await;
                if !back.is_empty() {
                    redis.give_back(back).await;
                    memory.give_back(&went.split_off(fits.len()));
                }
            }
            Op::Hold { hold: n } => {
                let hold = hold(n);
                memory.hold(&hold, 1_000_000);
                redis.hold(&hold, 1_000_000).await;
            }
            Op::Release { hold: n } => {
                let hold = hold(n);
                memory.release(&hold, 1);
                redis.release(&hold, 1).await;
            }
            Op::Turn { lane, owner, keyed } => {
                let cell = keyed_entry(0, lane, 0, owner, keyed).cell;
                let turn = redis.take_turn(lane, &cell).await;
                let now = chrono::Utc::now().timestamp_millis();
                assert_eq!(turn, Ok(memory.take_turn(lane, &cell, now)));
            }
        }
        assert_eq!(redis.waiting().await, Ok(memory.len()));
    }
    redis.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn both_indexes_give_the_same_jobs_in_the_same_order(ops in ops()) {
        if harness::arrangement() == "redis" {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(compare(ops));
        }
    }
}
