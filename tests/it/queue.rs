//! The index in Redis gives the same jobs in the same order as the one in memory, whatever happens to both.

use std::time::Duration;

use proptest::prelude::*;
use windlass::server::config::RedisUrl;
use windlass::server::queue::index::Index;
use windlass::server::queue::redis::{Link, RedisQueue};
use windlass::server::queue::{Cell, Entry, Hold, Queue};

use crate::harness;

const OWNERS: [&str; 3] = ["ada", "bob", "cy"];

#[derive(Clone, Debug)]
enum Op {
    Announce {
        seq: i64,
        lane: u8,
        since: i64,
        owner: usize,
    },
    Withdraw {
        seq: i64,
    },
    Take {
        max: usize,
        suspect: bool,
    },
    Hold {
        owner: usize,
    },
    Release {
        owner: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let seq = || 1_i64..60;
    let owner = || 0..OWNERS.len();
    let op = prop_oneof![
        8 => (seq(), 0_u8..5, 0_i64..2_000_000, owner())
            .prop_map(|(seq, lane, since, owner)| Op::Announce { seq, lane, since, owner }),
        1 => seq().prop_map(|seq| Op::Withdraw { seq }),
        4 => (1_usize..6, any::<bool>()).prop_map(|(max, suspect)| Op::Take { max, suspect }),
        1 => owner().prop_map(|owner| Op::Hold { owner }),
        1 => owner().prop_map(|owner| Op::Release { owner }),
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

async fn redis() -> RedisQueue {
    let url = RedisUrl::parse(&std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL")).expect("an address");
    RedisQueue::new(Link::connect(&url, &harness::unique()).await.expect("Redis"))
}

/// Waiting in vain is what workers do all the time.
#[tokio::test]
async fn a_queue_that_stays_empty_is_well() {
    if harness::arrangement() != "redis" {
        return;
    }
    let redis = redis().await;
    assert_eq!(redis.take(5, true).await, Ok(Vec::new()));
    assert!(redis.health().is_ok());
    let job = [entry(1, 0, 0, 0)];
    let (taken, ()) = tokio::join!(redis.take(5, true), redis.announce(&job));
    assert_eq!(taken, Ok(vec![1]));
    redis.close().await;
}

async fn compare(ops: Vec<Op>) {
    let (redis, mut memory) = (redis().await, Index::default());
    // Of equal turns the first name goes first in Redis, and in memory the first that came.
    for owner in 0..OWNERS.len() {
        memory.insert(&entry(1_000, 0, 0, owner));
        memory.remove(1_000);
    }
    for op in ops {
        match op {
            Op::Announce {
                seq,
                lane,
                since,
                owner,
            } => {
                let one = entry(seq, lane, since, owner);
                memory.insert(&one);
                redis.announce(&[one]).await;
            }
            Op::Withdraw { seq } => {
                memory.remove(seq);
                redis.withdraw(seq).await;
            }
            Op::Take { max, suspect } => {
                let expected: Vec<i64> = memory.take(max, 0, suspect).into_iter().map(|e| e.seq).collect();
                // Where there is nothing it looks, and then waits for more.
                let taking = redis.take(max, suspect);
                let taken = match expected.is_empty() {
                    true => tokio::time::timeout(Duration::from_millis(60), taking)
                        .await
                        .unwrap_or(Ok(Vec::new())),
                    false => taking.await,
                };
                let taken = taken.expect("an answer");
                assert_eq!(taken, expected);
                redis.settle(&taken).await;
            }
            Op::Hold { owner } => {
                let hold = Hold::Owner(OWNERS[owner].into());
                memory.hold(&hold, 1_000_000);
                redis.hold(&hold, 1_000_000).await;
            }
            Op::Release { owner } => {
                let hold = Hold::Owner(OWNERS[owner].into());
                memory.release(&hold);
                redis.release(&hold).await;
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
