use proptest::prelude::*;

use super::*;
use crate::domain::error::ErrorCode;
use crate::domain::status::Action;
use crate::domain::time::from_millis;

const NOW: i64 = 1_700_000_000_000;

const LOST: Event = Event::LeaseLost { crashes_max: 3 };

fn state(status: Status) -> State {
    State {
        status,
        attempt: 1,
        max_attempts: 3,
        attempts_per_round: 3,
        crashes: 0,
        epoch: 7,
        run_at: from_millis(NOW),
        cancel_requested: false,
        pause_requested: false,
    }
}

fn go(state: &State, event: Event) -> Result<(State, Effects), Refused> {
    apply(state, &event, from_millis(NOW))
}

fn to(status: Status, event: Event) -> Status {
    go(&state(status), event).expect("allowed").0.status
}

fn fail(code: ErrorCode) -> Event {
    Event::Fail {
        epoch: 7,
        error: JobError::new(code, "x"),
        delay_ms: 4_000,
    }
}

#[test]
fn every_name_and_alias_is_understood() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
        assert_eq!(Status::parse(&status.label().to_uppercase()), Some(status));
    }
    let others = [
        ("queued", Status::Pending),
        ("active", Status::Running),
        ("Processing", Status::Running),
        ("complete", Status::Completed),
        ("dead_letter", Status::Dead),
        ("canceled", Status::Cancelled),
    ];
    for (name, status) in others {
        assert_eq!(Status::parse(name), Some(status), "{name}");
    }
    assert_eq!(Status::parse("runing"), None);
}

/// The table of SPEC §2: what is offered is exactly what the machine takes.
#[test]
fn the_machine_takes_exactly_what_is_offered() {
    for checkpoints in [false, true] {
        for status in Status::ALL {
            let offered = status.actions(checkpoints);
            for action in Action::ALL {
                let event = match action {
                    Action::RunNow => Event::RunNow,
                    Action::Pause => Event::Pause { checkpoints },
                    Action::Resume => Event::Resume,
                    Action::Cancel => Event::Cancel,
                    Action::Abort => Event::Abort,
                    Action::Retry => Event::Retry { at: from_millis(NOW) },
                    // Not changes of a status: the service looks at the table itself.
                    Action::RunAgain | Action::Delete => continue,
                };
                let taken = go(&state(status), event).is_ok();
                assert_eq!(taken, offered.contains(&action), "{action:?} on {status:?}");
            }
        }
    }
}

#[test]
fn errors_lead_where_the_policy_says() {
    assert_eq!(to(Status::Running, fail(ErrorCode::NetworkError)), Status::Retrying);
    assert_eq!(to(Status::Running, fail(ErrorCode::Validation)), Status::Failed);
    let (next, fx) = go(&state(Status::Running), fail(ErrorCode::Timeout)).expect("allowed");
    assert_eq!(next.run_at, from_millis(NOW + 4_000));
    assert_eq!(fx.ended, Some(Outcome::Failed));
    let last = State {
        attempt: 3,
        ..state(Status::Running)
    };
    assert_eq!(
        go(&last, fail(ErrorCode::Timeout)).expect("allowed").0.status,
        Status::Dead
    );
    let unwanted = State {
        cancel_requested: true,
        ..state(Status::Running)
    };
    assert_eq!(
        go(&unwanted, fail(ErrorCode::Timeout)).expect("allowed").0.status,
        Status::Cancelled
    );
}

#[test]
fn a_dead_worker_costs_an_attempt_and_a_hand_back_does_not() {
    let (lost, _) = go(&state(Status::Running), LOST).expect("allowed");
    assert_eq!((lost.status, lost.crashes, lost.max_attempts), (Status::Pending, 1, 3));
    let last = State {
        attempt: 3,
        ..state(Status::Running)
    };
    assert_eq!(go(&last, LOST).expect("allowed").0.status, Status::Dead);
    let (back, fx) = go(&last, Event::HandBack { epoch: 7 }).expect("allowed");
    assert_eq!((back.status, back.max_attempts, back.crashes), (Status::Pending, 4, 0));
    assert!(fx.announce);
}

#[test]
fn a_job_that_kills_its_worker_again_and_again_ends_whatever_attempts_are_left() {
    let mut at = State {
        max_attempts: 1_000,
        attempts_per_round: 1_000,
        ..state(Status::Running)
    };
    let mut rounds = Vec::new();
    for _ in 0..2 {
        for _ in 0..3 {
            at.status = Status::Running;
            at = go(&at, LOST).expect("allowed").0;
            rounds.push(at.status);
        }
        assert_eq!(at.status, Status::Dead);
        at = go(&at, Event::Retry { at: from_millis(NOW) }).expect("allowed").0;
    }
    use Status::{Dead, Pending};
    assert_eq!(
        rounds,
        [Pending, Pending, Dead, Pending, Pending, Dead],
        "a Retry grants as many again"
    );
    let unwanted = State {
        crashes: 2,
        cancel_requested: true,
        ..state(Status::Running)
    };
    assert_eq!(go(&unwanted, LOST).expect("allowed").0.status, Status::Cancelled);
}

#[test]
fn cancel_asks_a_running_job_and_ends_a_waiting_one() {
    let (asked, fx) = go(&state(Status::Running), Event::Cancel).expect("allowed");
    assert_eq!(
        (asked.status, asked.cancel_requested, asked.epoch),
        (Status::Running, true, 7)
    );
    assert!(fx.signal_cancel && fx.ended.is_none());
    let (stopped, _) = go(&asked, Event::Stopped { epoch: 7 }).expect("allowed");
    assert_eq!(
        (stopped.status, stopped.cancel_requested, stopped.epoch),
        (Status::Cancelled, false, 8)
    );
    assert!(go(&state(Status::Running), Event::Stopped { epoch: 7 }).is_err());
    for waiting in [
        Status::Scheduled,
        Status::Blocked,
        Status::Pending,
        Status::Retrying,
        Status::Paused,
    ] {
        assert_eq!(to(waiting, Event::Cancel), Status::Cancelled);
    }
}

#[test]
fn a_checkpoint_pauses_a_job_unless_it_shall_end() {
    let checkpointed = Event::Checkpointed { epoch: 7 };
    assert!(go(&state(Status::Running), checkpointed.clone()).is_err());
    let (asked, _) = go(&state(Status::Running), Event::Pause { checkpoints: true }).expect("allowed");
    let (paused, fx) = go(&asked, checkpointed.clone()).expect("allowed");
    assert_eq!((paused.status, fx.ended), (Status::Paused, Some(Outcome::Paused)));
    assert_eq!(paused.max_attempts, 4, "it costs no attempt");
    let (both, _) = go(&asked, Event::Cancel).expect("allowed");
    let (ended, fx) = go(&both, checkpointed).expect("allowed");
    assert_eq!((ended.status, fx.ended), (Status::Cancelled, Some(Outcome::Cancelled)));
}

#[test]
fn retry_grants_fresh_attempts_now_or_later() {
    let dead = State {
        attempt: 3,
        ..state(Status::Dead)
    };
    let (now, _) = go(&dead, Event::Retry { at: from_millis(0) }).expect("allowed");
    assert_eq!(
        (now.status, now.max_attempts, now.run_at),
        (Status::Pending, 6, from_millis(NOW))
    );
    let at = from_millis(NOW + 60_000);
    let (later, _) = go(&dead, Event::Retry { at }).expect("allowed");
    assert_eq!((later.status, later.run_at), (Status::Scheduled, at));
}

#[test]
fn nothing_starts_before_its_time() {
    let early = State {
        run_at: from_millis(NOW + 1),
        ..state(Status::Pending)
    };
    assert!(go(&early, Event::Claim).is_err());
    let scheduled = State {
        status: Status::Scheduled,
        ..early
    };
    assert!(go(&scheduled, Event::Due).is_err());
    assert_eq!(to(Status::Scheduled, Event::Due), Status::Pending);
    assert_eq!(to(Status::Retrying, Event::Due), Status::Pending);
}

fn any_event() -> impl Strategy<Value = Event> {
    let epoch = 0u64..12;
    prop_oneof![
        epoch.clone().prop_map(|epoch| Event::Complete { epoch }),
        (epoch.clone(), any::<bool>()).prop_map(|(epoch, retryable)| Event::Fail {
            epoch,
            error: JobError::new(
                if retryable {
                    ErrorCode::Timeout
                } else {
                    ErrorCode::NotFound
                },
                "x"
            ),
            delay_ms: 10,
        }),
        epoch.clone().prop_map(|epoch| Event::Stopped { epoch }),
        epoch.clone().prop_map(|epoch| Event::Checkpointed { epoch }),
        epoch.prop_map(|epoch| Event::HandBack { epoch }),
        Just(Event::Due),
        Just(Event::Unblock),
        Just(Event::Claim),
        Just(LOST),
        Just(Event::RunNow),
        any::<bool>().prop_map(|checkpoints| Event::Pause { checkpoints }),
        Just(Event::Resume),
        Just(Event::Cancel),
        Just(Event::Abort),
        (0i64..100).prop_map(|ms| Event::Retry {
            at: from_millis(NOW + ms)
        }),
    ]
}

proptest! {
    /// Whatever happens in whatever order, the promises of SPEC §3 hold at every step.
    #[test]
    fn no_order_of_events_breaks_a_promise(events in proptest::collection::vec(any_event(), 1..80)) {
        let mut now = NOW;
        let mut at = State { attempt: 0, epoch: 0, ..state(Status::Pending) };
        for event in events {
            now += 7;
            let before = at.clone();
            let Ok((next, fx)) = apply(&before, &event, from_millis(now)) else { continue };
            prop_assert!(next.epoch >= before.epoch, "an epoch never falls");
            prop_assert!(next.attempt >= before.attempt && next.crashes >= before.crashes);
            let (was, is) = (before.status == Status::Running, next.status == Status::Running);
            prop_assert_eq!(fx.started, !was && is, "an attempt starts when running begins");
            prop_assert_eq!(fx.ended.is_some(), was && !is, "and ends when it ends");
            if was != is {
                prop_assert!(next.epoch > before.epoch, "the lease changes hands");
            }
            if fx.started {
                prop_assert_eq!(next.attempt, before.attempt + 1);
                prop_assert!(next.attempt <= next.max_attempts, "no attempt beyond the policy");
                prop_assert!(next.run_at <= from_millis(now), "no early start");
            }
            if before.status.is_finished() {
                prop_assert!(matches!(event, Event::Retry { .. }), "only a person brings an ended job back");
            }
            if let Event::Complete { epoch } | Event::Fail { epoch, .. } | Event::Stopped { epoch }
                | Event::Checkpointed { epoch } | Event::HandBack { epoch } = event {
                prop_assert!(was && epoch == before.epoch, "a stale write is never taken");
            }
            if next.cancel_requested || next.pause_requested {
                prop_assert!(is, "wishes end with the attempt");
            }
            at = next;
        }
    }
}
