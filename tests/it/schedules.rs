//! Schedules: what people do with them, and that each run is enqueued once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;
use windlass::domain::job::Lane;
use windlass::domain::kind::Policy;
use windlass::domain::schedule::Misfire;
use windlass::server::config::{Config, Database};
use windlass::server::service::Service;
use windlass::server::service::cron::Rule;
use windlass::server::state;
use windlass::server::store::Store;
use windlass::server::store::enqueue::Enqueue;
use windlass::server::store::schedules::ScheduleDraft;

use crate::harness::{self, Server, unique, until};

async fn make(s: &Server, body: Value) -> Value {
    let (status, schedule) = s.post("/api/schedules", body).await;
    assert_eq!(status, StatusCode::CREATED, "{schedule}");
    schedule
}

#[tokio::test]
async fn a_schedule_runs_again_and_again_until_it_is_paused() {
    let s = Server::start().await;
    let name = unique();
    let made = make(
        &s,
        json!({ "name": name, "cron": "* * * * * *", "type": "echo", "args": { "value": 7 } }),
    )
    .await;
    assert_eq!((&made["time_zone"], &made["paused"]), (&json!("UTC"), &json!(false)));
    assert!(
        made["description"]
            .as_str()
            .expect("words")
            .to_lowercase()
            .contains("second"),
        "{made}"
    );
    let path = format!("/api/schedules/{}", made["id"].as_str().expect("id"));
    until("two runs", async || {
        (s.get("/api/jobs?type=echo&status=completed").await["total"].as_u64()? >= 2).then_some(())
    })
    .await;
    let now = s.get(&path).await;
    assert!(now["last_at"].is_string() && now["next_at"].is_string(), "{now}");
    let job = s.detail(now["last_job"].as_str().expect("job")).await;
    assert_eq!(job["args"]["value"], 7);
    assert!(
        job["transitions"][0]["reason"]
            .as_str()
            .expect("reason")
            .contains(&name)
    );
    let (_, paused) = s.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!((&paused["paused"], &paused["next_at"]), (&json!(true), &Value::Null));
    let (status, job) = s.post(&format!("{path}/run-now"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    s.until(job["id"].as_str().expect("id"), "completed").await;
    let (_, resumed) = s.post(&format!("{path}/resume"), json!({})).await;
    assert!(resumed["next_at"].is_string());
    // Every run has another time.
    let jobs = s.get("/api/jobs?type=echo&limit=100").await;
    let starts: BTreeSet<String> = jobs["items"]
        .as_array()
        .expect("list")
        .iter()
        .map(|j| j["created_at"].to_string())
        .collect();
    assert_eq!(starts.len(), jobs["items"].as_array().expect("list").len());
    let gone = s.ask(Method::DELETE, &path).send().await.expect("answer");
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(s.get("/api/schedules").await, json!([]));
    s.stop().await;
}

#[tokio::test]
async fn resuming_gives_a_schedule_without_a_next_run_one_again_and_changes_nothing_else() {
    let s = Server::start().await;
    let body = json!({ "name": unique(), "cron": "0 0 1 1 *", "type": "echo" });
    let made = make(&s, body).await;
    let path = format!("/api/schedules/{}", made["id"].as_str().expect("id"));
    let noted = async || {
        let query = format!("action=schedule.resume&name={}", made["id"].as_str().expect("id"));
        let page = s.get(&format!("/api/admin/audit-logs?{query}")).await;
        page["items"].as_array().expect("items").len()
    };
    // One that goes on as it should is left as it is, and there is nothing to note.
    let (status, same) = s.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!((status, &same["next_at"]), (StatusCode::OK, &made["next_at"]));
    assert_eq!(noted().await, 0);
    // Nobody could tell the next run: it waits, not paused, for somebody to resume it.
    let lost = "UPDATE schedules SET next_at = NULL";
    sql(s.dir.path(), lost, lost).await;
    assert_eq!(s.get(&path).await["next_at"], Value::Null);
    let (status, again) = s.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(
        (status, &again["next_at"]),
        (StatusCode::OK, &made["next_at"]),
        "{again}"
    );
    assert_eq!((&again["paused"], noted().await), (&json!(false), 1));
    s.stop().await;
}

#[tokio::test]
async fn bad_schedules_are_refused_with_the_field_and_what_is_allowed() {
    let s = Server::start().await;
    let good = json!({ "name": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "type": "echo" });
    let made = make(&s, good.clone()).await;
    for (field, value) in [
        ("cron", json!("61 * * * *")),
        ("cron", json!("0 0 30 2 *")),
        ("time_zone", json!("Mars/Base")),
        ("type", json!("nothing")),
        ("queue", json!("no queue")),
        ("name", json!("")),
        ("name", json!("nightly")),
    ] {
        let mut body = good.clone();
        body["name"] = json!("other");
        body[field] = value;
        let (status, problem) = s.post("/api/schedules", body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    assert_eq!(s.get("/api/schedules").await.as_array().expect("list").len(), 1);
    let mut changed = good.clone();
    changed["cron"] = json!("0 5 * * *");
    let path = format!("/api/schedules/{}", made["id"].as_str().expect("id"));
    let answer = s.ask(Method::PUT, &path).json(&changed).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(s.get(&path).await["cron"], "0 5 * * *");
    s.stop().await;
}

async fn settings(dir: &Path) -> Config {
    let mut config = harness::config(dir);
    harness::arrange(&mut config, dir).await;
    config
}

/// Runs statements on the system's database behind its back.
pub async fn sql(dir: &Path, sqlite: &'static str, postgres: &'static str) {
    if harness::arrangement() == "sqlite" {
        let file = SqliteConnectOptions::new().filename(settings(dir).await.database_path());
        let mut connection = file.connect().await.expect("connected");
        sqlx::raw_sql(sqlite).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    } else {
        let mut connection = postgres_of(dir).await;
        sqlx::raw_sql(postgres).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    }
}

/// A connection to the system's Postgres.
pub async fn postgres_of(dir: &Path) -> PgConnection {
    let place = harness::environment(dir).await;
    let url = place.iter().find(|(name, _)| *name == "DATABASE_URL").expect("given");
    let options = PgConnectOptions::from_str(&url.1).expect("an address");
    options.connect().await.expect("connected")
}

/// A schedule for once a year that is due at `next_at`.
fn yearly(name: &str, kind: &str, next_at: i64) -> ScheduleDraft {
    ScheduleDraft {
        name: name.into(),
        cron: "0 0 1 1 *".into(),
        time_zone: "UTC".into(),
        kind: kind.into(),
        args: json!({}),
        queue: "default".into(),
        lane: Lane::Normal,
        misfire: Misfire::Once,
        owner: "test".into(),
        next_at: Some(next_at),
    }
}

async fn put(store: &Store, draft: ScheduleDraft) -> Uuid {
    let id = Uuid::now_v7();
    store
        .put_schedule(id, draft, |_, _| None)
        .await
        .expect("written")
        .expect("free");
    id
}

/// Waits until the schedule has gone on, and gives the job that it enqueued for that.
async fn gone_on(store: &Store, id: Uuid) -> Option<Uuid> {
    until("the schedule goes on", async || {
        let row = store.schedule(id).await.expect("read").expect("there");
        let now = store.clock().await.expect("clock");
        row.next_at.is_some_and(|at| at > now).then_some(row.schedule.last_job)
    })
    .await
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_once_or_not_at_all() {
    let s = Server::start().await;
    let beside = Store::open_beside(&settings(s.dir.path()).await).await.expect("store");
    let hours_ago = beside.clock().await.expect("clock") - 5 * 3_600_000;
    // It would have run each hour.
    let hourly = |name: &str, misfire| ScheduleDraft {
        cron: "0 * * * *".into(),
        misfire,
        ..yearly(name, "echo", hours_ago)
    };
    let skip = put(&beside, hourly("skip", Misfire::Skip)).await;
    let once = put(&beside, hourly("once", Misfire::Once)).await;
    let job = gone_on(&beside, once).await.expect("a job");
    s.until(&job.to_string(), "completed").await;
    assert_eq!(gone_on(&beside, skip).await, None);
    let jobs = s.get("/api/jobs?type=echo").await;
    assert_eq!((&jobs["total"], &jobs["items"][0]["id"]), (&json!(1), &json!(job)));
    beside.close().await;
    s.stop().await;
}

#[tokio::test]
async fn a_schedule_that_can_not_be_fired_stays_due_and_is_in_no_others_way() {
    let s = Server::start().await;
    let dir = s.dir.path();
    let beside = Store::open_beside(&settings(dir).await).await.expect("store");
    let far = beside.clock().await.expect("clock") + 3_600_000;
    let put = async |draft| put(&beside, draft).await;
    // All of them become due at once, before the good one: one that can't be read, one whose job is refused, and more than are
    // read at once whose kind other processes may know.
    let torn = put(yearly("torn", "echo", far)).await;
    let refused = ScheduleDraft {
        queue: "refused".into(),
        ..yearly("refused", "echo", far)
    };
    let refused = put(refused).await;
    let mut unknown = Vec::new();
    for n in 0..Store::DUE_PAGE + 10 {
        unknown.push(put(yearly(&format!("unknown {n}"), "unheard-of", far)).await);
    }
    let good = put(yearly("good", "echo", far)).await;
    let due =
        "UPDATE schedules SET next_at = 1000 WHERE name <> 'good'; UPDATE schedules SET args = '{' WHERE name = 'torn';
        UPDATE schedules SET next_at = 2000 WHERE name = 'good';";
    sql(
        dir,
        "CREATE TRIGGER refusing BEFORE INSERT ON jobs WHEN NEW.queue = 'refused' BEGIN SELECT RAISE(ABORT, 'refused'); END;",
        "ALTER TABLE jobs ADD CONSTRAINT refusing CHECK (queue <> 'refused')",
    )
    .await;
    sql(dir, due, due).await;
    let job = gone_on(&beside, good).await.expect("a job");
    s.until(&job.to_string(), "completed").await;
    for id in unknown.iter().chain([&refused]) {
        let row = beside.schedule(*id).await.expect("read").expect("there");
        assert_eq!(
            (row.next_at, row.schedule.last_at),
            (Some(1_000), None),
            "{}",
            row.schedule.name
        );
    }
    assert_eq!(s.get("/api/jobs").await["total"], 1);
    // They go on when what kept them has gone: whoever knows the kind has come, say.
    let mended = "UPDATE schedules SET args = '{}' WHERE name = 'torn';
        UPDATE schedules SET kind = 'echo' WHERE name = 'unknown 7';";
    sql(dir, mended, mended).await;
    sql(
        dir,
        "DROP TRIGGER refusing",
        "ALTER TABLE jobs DROP CONSTRAINT refusing",
    )
    .await;
    for id in [torn, refused, unknown[7]] {
        let job = gone_on(&beside, id).await.expect("a job");
        s.until(&job.to_string(), "completed").await;
    }
    assert_eq!(s.get("/api/jobs").await["total"], 4);
    beside.close().await;
    s.stop().await;
}

#[tokio::test]
async fn a_run_that_was_enqueued_before_the_clock_went_back_is_passed_over() {
    let dir = tempfile::TempDir::new().expect("folder");
    let store = Store::open(&settings(dir.path()).await).await.expect("store");
    let job = || Some(Enqueue::of("noop", "test", json!({}), &Policy::DEFAULT));
    let id = put(&store, yearly("daily", "noop", 1_000)).await;
    let first = store.fire(id, 1_000, Some(2_000), job()).await.expect("fired");
    let first = first.expect("a job").job.id;
    // Somebody edits it while the clock shows an earlier time.
    store
        .put_schedule(id, yearly("daily", "noop", 1_000), |_, _| None)
        .await
        .expect("written");
    assert!(
        store
            .fire(id, 1_000, Some(2_000), job())
            .await
            .expect("passed over")
            .is_none()
    );
    let row = store.schedule(id).await.expect("read").expect("there");
    assert_eq!((row.next_at, row.schedule.last_job), (Some(2_000), Some(first)));
    assert!(
        store
            .fire(id, 2_000, Some(3_000), job())
            .await
            .expect("fired")
            .is_some()
    );
    assert_eq!(store.counts().await.expect("counts").total, 2);
    store.close().await;
}

/// Three who all see the same runs fall due: each is enqueued once.
#[tokio::test]
async fn no_run_is_enqueued_twice_and_none_is_missed() {
    let dir = tempfile::TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let store = Store::open(&config).await.expect("store");
    let runs: Vec<i64> = (1..=400).map(|day| day * 86_400_000).collect();
    let draft = ScheduleDraft {
        name: "daily".into(),
        cron: "0 0 * * *".into(),
        time_zone: "UTC".into(),
        kind: "noop".into(),
        args: json!({}),
        queue: "default".into(),
        lane: Lane::Normal,
        misfire: Misfire::Once,
        owner: "test".into(),
        next_at: Some(runs[0]),
    };
    let id = uuid::Uuid::now_v7();
    store
        .put_schedule(id, draft, |_, _| None)
        .await
        .expect("written")
        .expect("free");
    let job = || Enqueue::of("noop", "test", json!({}), &Policy::DEFAULT);
    let schedulers = (0..3).map(|_| async {
        let mut fired = 0;
        for pair in runs.windows(2) {
            if store
                .fire(id, pair[0], Some(pair[1]), Some(job()))
                .await
                .expect("fired")
                .is_some()
            {
                fired += 1;
            }
        }
        fired
    });
    let fired: usize = futures::future::join_all(schedulers).await.into_iter().sum();
    assert_eq!(fired, runs.len() - 1, "doubled or missed");
    assert_eq!(store.counts().await.expect("counts").total, fired as u64);
    store.close().await;
}

/// A change of a zone's clock: the second from which on it holds, and the offsets before and after, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Turn {
    at: i64,
    before: i64,
    after: i64,
}

/// Minutes on both sides of a turn that are watched.
const REACH: i64 = 4 * 60;

impl Turn {
    /// All of a zone's from 2024 to 2028.
    fn all(zone: Tz) -> Vec<Self> {
        const STEP: i64 = 2 * 86_400;
        let offset = |at: i64| {
            let moment = DateTime::from_timestamp(at, 0).expect("a moment").naive_utc();
            i64::from(zone.offset_from_utc_datetime(&moment).fix().local_minus_utc())
        };
        let of_year = |year| {
            Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0)
                .single()
                .expect("a moment")
                .timestamp()
        };
        let mut turns = Vec::new();
        let (mut at, until) = (of_year(2024), of_year(2029));
        let mut before = offset(at);
        while at < until {
            let after = offset(at + STEP);
            if after != before {
                let (mut early, mut late) = (at, at + STEP);
                while late - early > 1 {
                    let middle = early + (late - early) / 2;
                    if offset(middle) == before {
                        early = middle;
                    } else {
                        late = middle;
                    }
                }
                turns.push(Self {
                    at: late,
                    before,
                    after,
                });
            }
            (at, before) = (at + STEP, after);
        }
        turns
    }

    fn begins(self) -> i64 {
        self.at - REACH * 60
    }

    fn ends(self) -> i64 {
        self.at + REACH * 60
    }

    /// The first and the last minute that the wall clock skips or repeats.
    fn span(self) -> (i64, i64) {
        let (a, b) = ((self.at + self.before) / 60, (self.at + self.after) / 60);
        (a.min(b), a.max(b) - 1)
    }

    /// When something is due around it, by watching a wall clock minute by minute: what it shows counts the first time that it
    /// is shown, and what it skips as soon as it has been skipped. `due` is asked about minutes of the wall clock.
    fn watch(self, due: impl Fn(i64) -> bool) -> Vec<i64> {
        let reading = |at: i64| (at + if at < self.at { self.before } else { self.after }) / 60;
        let mut furthest = reading(self.begins());
        let mut seen = Vec::new();
        for minute in 1..=2 * REACH {
            let at = self.begins() + minute * 60;
            if (furthest + 1..=reading(at)).any(&due) {
                seen.push(at);
            }
            furthest = furthest.max(reading(at));
        }
        seen
    }
}

/// A rule, and the same for [`Turn::watch`].
struct Watched {
    cron: String,
    /// Every so many minutes, and how many minutes after that.
    every: i64,
    plus: i64,
}

impl Watched {
    fn daily(minute: i64) -> Self {
        let plus = minute.rem_euclid(1_440);
        Self {
            cron: format!("{} {} * * *", plus % 60, plus / 60),
            every: 1_440,
            plus,
        }
    }

    fn quarters() -> Self {
        Self {
            cron: "*/15 * * * *".into(),
            every: 15,
            plus: 0,
        }
    }

    fn due(&self, minute: i64) -> bool {
        minute.rem_euclid(self.every) == self.plus
    }
}

fn next(rule: &Rule, after: i64) -> i64 {
    let after = DateTime::from_timestamp(after, 0).expect("a moment");
    rule.next(after).expect("another one").timestamp()
}

#[test]
fn all_zones_of_five_years_run_as_one_who_watches_their_clocks_says() {
    let (mut known, mut zones) = (HashSet::new(), 0);
    for zone in TZ_VARIANTS {
        let turns = Turn::all(zone);
        zones += usize::from(!turns.is_empty());
        for turn in turns {
            let (first, last) = turn.span();
            let mut rules = vec![Watched::daily((first + last) / 2)];
            // Zones share most of their turns: what is much work is done once for each.
            let new = known.insert(turn);
            if new {
                rules.extend([first - 1, first, last, last + 1].map(Watched::daily));
                rules.push(Watched::quarters());
            }
            for watched in rules {
                let rule = Rule::parse(&watched.cron, zone.name()).expect("a rule");
                let expected = turn.watch(|minute| watched.due(minute));
                let mut found = Vec::new();
                let mut at = next(&rule, turn.begins());
                while at <= turn.ends() {
                    found.push(at);
                    at = next(&rule, at);
                }
                assert_eq!(found, expected, "{} in {zone} at {turn:?}", watched.cron);
                if new {
                    for after in (turn.begins()..turn.ends()).step_by(17 * 60) {
                        let expected = expected.iter().find(|at| **at > after);
                        let found = Some(next(&rule, after)).filter(|at| *at <= turn.ends());
                        assert_eq!(found.as_ref(), expected, "{} in {zone} after {after}", watched.cron);
                    }
                }
            }
        }
    }
    assert!(zones > 100 && known.len() > 100, "{zones} zones, {} turns", known.len());
}

/// Minutes on both sides of a turn for which the schedulers are watched: more than any clock skips or repeats.
const NEAR: i64 = 165;

/// One of each: zones whose clocks turn at the same moments and in the same way stand for each other.
fn zones() -> Vec<(Tz, Vec<Turn>)> {
    let mut known = HashSet::new();
    let all = TZ_VARIANTS.into_iter().map(|zone| (zone, Turn::all(zone)));
    all.filter(|(_, turns)| !turns.is_empty() && known.insert(turns.clone()))
        .collect()
}

/// The runs that were enqueued, in seconds, by the schedules' names.
async fn runs(config: &Config) -> BTreeMap<String, Vec<i64>> {
    let text = "SELECT schedules.name, schedule_runs.due_at FROM schedule_runs \
        JOIN schedules ON schedules.id = schedule_runs.schedule ORDER BY schedules.name, schedule_runs.due_at";
    let rows: Vec<(String, i64)> = match &config.database {
        Database::Sqlite(_) => {
            let file = SqliteConnectOptions::new().filename(config.database_path());
            let mut connection = file.connect().await.expect("connected");
            let rows = sqlx::query_as(text).fetch_all(&mut connection).await;
            connection.close().await.expect("closed");
            rows.expect("read")
        }
        Database::Postgres(url) => {
            let mut connection = url.options().connect().await.expect("connected");
            let rows = sqlx::query_as(text).fetch_all(&mut connection).await;
            connection.close().await.expect("closed");
            rows.expect("read")
        }
    };
    let mut runs: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (name, due) in rows {
        runs.entry(name).or_default().push(due / 1_000);
    }
    runs
}

/// Three schedulers, each the function that the engine calls, go through every turn of five years in every zone: all look at
/// the same schedules while the clocks turn.
#[tokio::test]
async fn no_run_is_doubled_or_missed_when_clocks_turn() {
    let dir = tempfile::TempDir::new().expect("folder");
    let config = settings(dir.path()).await;
    let started = state::start(&config, harness::registry(&config), false).await;
    let first = started.expect("the system starts").service;
    // What one process serves it works on alone; otherwise each scheduler has connections of its own.
    let others = match harness::arrangement() {
        "sqlite" => vec![first.clone(), first.clone()],
        _ => {
            let (one, other) = tokio::join!(state::beside(&config), state::beside(&config));
            vec![one.expect("a service"), other.expect("a service")]
        }
    };
    let store = Store::open_beside(&config).await.expect("store");
    // Zones share most moments at which their clocks turn.
    let mut turns: BTreeMap<i64, Vec<(Tz, Turn, Watched)>> = BTreeMap::new();
    for (zone, all) in zones() {
        for (n, turn) in all.into_iter().enumerate() {
            let (begin, end) = turn.span();
            let watched = match n {
                // One by a clock that goes forward, and one by a clock that goes back.
                0 | 1 => Watched::quarters(),
                _ => Watched::daily((begin + end) / 2),
            };
            turns.entry(turn.at).or_default().push((zone, turn, watched));
        }
    }
    let (mut expected, mut what) = (BTreeMap::new(), BTreeMap::new());
    for (at, group) in turns {
        let (from, until) = (at - NEAR * 60, at + NEAR * 60);
        let mut ids = Vec::new();
        for (zone, turn, watched) in group {
            let rule = Rule::parse(&watched.cron, zone.name()).expect("a rule");
            let draft = ScheduleDraft {
                time_zone: zone.name().into(),
                cron: watched.cron.clone(),
                ..yearly(&unique(), "export", next(&rule, from) * 1_000)
            };
            let mut due = turn.watch(|minute| watched.due(minute));
            due.retain(|at| *at > from && *at <= until);
            what.insert(draft.name.clone(), format!("{} in {zone} at {turn:?}", watched.cron));
            expected.insert(draft.name.clone(), due);
            ids.push(put(&store, draft).await);
        }
        let scheduler = async |service: &Service| {
            // Its clock goes on in steps, and it looks at what is due by then.
            for now in (from..=until).step_by(15 * 60) {
                service.fire_due_by(now * 1_000).await.expect("fired");
            }
        };
        futures::join!(scheduler(&first), scheduler(&others[0]), scheduler(&others[1]));
        for id in ids {
            let deed = harness::deed("schedule.pause", id);
            store.pause_schedule(id, true, None, deed).await.expect("paused");
        }
    }
    let found = runs(&config).await;
    let (mut doubled, mut missed, mut all) = (0, 0, 0);
    for (name, expected) in &expected {
        let found = found.get(name).cloned().unwrap_or_default();
        doubled += found.iter().filter(|at| !expected.contains(at)).count();
        missed += expected.iter().filter(|at| !found.contains(at)).count();
        all += found.len() as u64;
        assert_eq!(found, *expected, "{}", what[name]);
    }
    // A run that two enqueued is one row there, and two jobs.
    let jobs = store.counts().await.expect("counts").total;
    println!(
        "{} turns, three schedulers, {all} runs: double {}, missed {missed}",
        expected.len(),
        doubled + (jobs - all) as usize
    );
    assert_eq!(jobs, all);
    assert!(
        expected.len() > 250 && all > 1_000,
        "{} turns, {all} runs",
        expected.len()
    );
    store.close().await;
    for service in others.iter().filter(|_| harness::arrangement() != "sqlite") {
        service.close().await;
    }
    first.close().await;
}
