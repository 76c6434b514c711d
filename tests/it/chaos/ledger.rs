//! A file that all processes append to: when which attempt of which job began and ended, and who was killed. What the database
//! says afterwards is held against it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use windlass::domain::filter::JobFilter;
use windlass::domain::job::Attempt;
use windlass::domain::kind::Policy;
use windlass::domain::page::PageRequest;
use windlass::domain::status::{Outcome, Status};
use windlass::domain::user::Actor;
use windlass::server::engine::context::Context;
use windlass::server::engine::kind::{Halt, Kind};
use windlass::server::service::Service;

/// The ledger of this process, for its jobs.
static LEDGER: OnceLock<Ledger> = OnceLock::new();

#[derive(Clone, Debug)]
pub struct Ledger(PathBuf);

/// One line: what happened, when (milliseconds since 1970), which job, which epoch, which process.
#[derive(Clone, Copy, Debug)]
struct Line {
    what: char,
    at: u128,
    job: Uuid,
    epoch: u64,
    pid: u32,
}

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_millis()
}

impl Ledger {
    pub fn open(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn become_the_process(self) {
        LEDGER.set(self).expect("once");
    }

    fn write(&self, what: char, job: Uuid, epoch: u64, pid: u32) {
        let line = format!("{what} {} {job} {epoch} {pid}\n", now());
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.0)
            .expect("ledger");
        file.write_all(line.as_bytes()).expect("ledger");
    }

    pub fn killed(&self, pid: u32) {
        self.write('k', Uuid::nil(), 0, pid);
    }

    fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        // A line that is being written at this moment is read the next time.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| {
                let mut parts = line.split(' ');
                let mut next = || parts.next().expect("five parts");
                Line {
                    what: next().chars().next().expect("a letter"),
                    at: next().parse().expect("a moment"),
                    job: next().parse().expect("a job"),
                    epoch: next().parse().expect("an epoch"),
                    pid: next().parse().expect("a process"),
                }
            })
            .collect()
    }

    /// Jobs of which some attempt came to its end.
    pub fn ended(&self) -> usize {
        let ended: HashSet<Uuid> = self.lines().iter().filter(|l| l.what == 'e').map(|l| l.job).collect();
        ended.len()
    }

    pub fn ended_by(&self, pid: u32) -> usize {
        self.lines().iter().filter(|l| l.what == 'e' && l.pid == pid).count()
    }

    /// Whether nothing is at work any more.
    pub fn quiet(&self) -> bool {
        let lines = self.lines();
        let dead: HashSet<u32> = lines.iter().filter(|l| l.what == 'k').map(|l| l.pid).collect();
        let live = |l: &&Line| !dead.contains(&l.pid);
        let (begun, ended) = (
            lines.iter().filter(|l| l.what == 's').filter(live),
            lines.iter().filter(|l| l.what == 'e'),
        );
        begun.count() <= ended.filter(live).count()
    }

    pub fn open_jobs(&self, pid: u32) -> Vec<Uuid> {
        let lines = self.lines();
        let ended: HashSet<(Uuid, u64)> = lines
            .iter()
            .filter(|l| l.what == 'e')
            .map(|l| (l.job, l.epoch))
            .collect();
        let open = lines
            .iter()
            .filter(|l| l.what == 's' && l.pid == pid && !ended.contains(&(l.job, l.epoch)));
        open.map(|l| l.job).collect()
    }

    pub fn open_attempts(&self, pid: u32) -> usize {
        self.open_jobs(pid).len()
    }

    pub fn began_elsewhere(&self, job: Uuid, pid: u32) -> bool {
        let lines = self.lines();
        let own = lines
            .iter()
            .rfind(|l| l.what == 's' && l.job == job && l.pid == pid)
            .map_or(0, |l| l.epoch);
        lines.iter().any(|l| l.what == 's' && l.job == job && l.epoch > own)
    }

    /// What went wrong, if anything.
    pub fn check(&self, truth: &[Told]) -> Report {
        let lines = self.lines();
        let mut report = Report {
            jobs: truth.len(),
            kills: lines.iter().filter(|l| l.what == 'k').count(),
            ..Report::default()
        };
        let killed: HashMap<u32, u128> = lines.iter().filter(|l| l.what == 'k').map(|l| (l.pid, l.at)).collect();
        let mut open: HashMap<Uuid, Vec<Line>> = HashMap::new();
        let mut recoveries: Vec<u128> = Vec::new();
        for line in &lines {
            let at_work = open.entry(line.job).or_default();
            match line.what {
                's' => {
                    report.attempts += 1;
                    for other in at_work.drain(..) {
                        match killed.get(&other.pid) {
                            Some(death) => recoveries.push(line.at.saturating_sub(*death)),
                            // Alive, and without a lease: it was too slow to renew it, or was stopped.
                            None => report.overtaken += 1,
                        }
                    }
                    at_work.push(*line);
                }
                'e' => at_work.retain(|other| other.epoch != line.epoch),
                _ => {}
            }
        }
        recoveries.sort_unstable();
        let p99 = recoveries.len().saturating_sub(1) * 99 / 100;
        report.recovery_p99 = recoveries.get(p99).map(|ms| Duration::from_millis(*ms as u64));
        for told in truth {
            let completed = told.outcomes.iter().filter(|o| **o == Some(Outcome::Completed)).count();
            if told.status != Status::Completed || completed != 1 {
                report.lost += 1;
            }
            // A lease ends where the next one begins, or before.
            let overlaps = told.spans.windows(2).filter(|pair| pair[0].1 > pair[1].0);
            report.leases_at_once += overlaps.count();
            // Completing ends the lease, and with it its epoch.
            if told.result["epoch"].as_u64().map(|epoch| epoch + 1) != Some(told.epoch) {
                report.stale_accepted += 1;
            }
        }
        report.drift = truth.first().map_or(0, |t| t.drift);
        report
    }
}

/// What the database says about a job in the end.
#[derive(Clone, Debug)]
pub struct Told {
    pub status: Status,
    pub epoch: u64,
    pub outcomes: Vec<Option<Outcome>>,
    pub result: Value,
    /// When each attempt held its lease, in milliseconds by the database's clock.
    pub spans: Vec<(i64, i64)>,
    /// By how much the counts differ from what there is, over all jobs.
    pub drift: u64,
}

fn spans(attempts: &[Attempt]) -> Vec<(i64, i64)> {
    let span = |a: &Attempt| {
        let ended = a.ended_at.map_or(i64::MAX, |at| at.timestamp_millis());
        (a.started_at.timestamp_millis(), ended)
    };
    attempts.iter().map(span).collect()
}

/// Reads all jobs, one by one.
pub async fn truth(service: &Service) -> Vec<Told> {
    let actor = Actor::local_admin();
    let mut told = Vec::new();
    let mut cursor = None;
    let mut seen: HashMap<Status, u64> = HashMap::new();
    loop {
        let page = PageRequest {
            limit: Some(500),
            offset: None,
            cursor: cursor.clone(),
        };
        let page = service
            .list_jobs(&actor, &JobFilter::default(), &page)
            .await
            .expect("jobs");
        for job in &page.items {
            *seen.entry(job.status).or_default() += 1;
            let detail = service.job_detail(&actor, job.id).await.expect("detail");
            told.push(Told {
                status: detail.job.status,
                epoch: detail.epoch,
                outcomes: detail.attempts.iter().map(|a| a.outcome).collect(),
                result: detail.result.unwrap_or_default(),
                spans: spans(&detail.attempts),
                drift: 0,
            });
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let counts = service.counts(&actor).await.expect("counts");
    let off = |status: &Status| counts.of(*status).abs_diff(seen.get(status).copied().unwrap_or(0));
    let drift = Status::ALL.iter().map(off).sum();
    told.iter_mut().for_each(|t| t.drift = drift);
    told
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub jobs: usize,
    pub attempts: usize,
    pub kills: usize,
    pub lost: usize,
    pub leases_at_once: usize,
    /// Attempts that still ran when their lease had run out and the job had begun anew: what they write is refused.
    pub overtaken: usize,
    pub stale_accepted: usize,
    pub drift: u64,
    pub recovery_p99: Option<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            jobs,
            attempts,
            kills,
            lost,
            leases_at_once,
            overtaken,
            stale_accepted,
            drift,
            recovery_p99,
        } = self;
        write!(
            f,
            "{jobs} jobs, {attempts} attempts, {kills} kills: lost {lost}, two leases at once {leases_at_once}, stale writes \
             accepted {stale_accepted}, overtaken {overtaken}, drift {drift}"
        )?;
        match recovery_p99 {
            Some(p99) => write!(f, ", recovery p99 {p99:?}"),
            None => Ok(()),
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkArgs {
    n: u32,
    ms: u32,
}

/// Takes its time, and says in the ledger when it began and ended.
pub struct Work;

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct RiskyArgs {
    ms: u32,
    kills: bool,
}

/// A kind of few attempts, some of whose jobs are the death of their workers.
pub struct Risky;

#[async_trait]
impl Kind for Risky {
    type Args = RiskyArgs;

    fn name(&self) -> &'static str {
        "risky"
    }

    fn description(&self) -> &'static str {
        "Takes its time, or kills its worker."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            max_attempts: 5,
            ..default
        }
    }

    async fn run(&self, _ctx: &Context, args: RiskyArgs) -> Result<Value, Halt> {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while began.elapsed() < Duration::from_millis(args.ms.into()) {
            tick.tick().await;
        }
        if args.kills {
            std::process::abort();
        }
        Ok(Value::Null)
    }
}

#[async_trait]
impl Kind for Work {
    type Args = WorkArgs;

    fn name(&self) -> &'static str {
        "work"
    }

    fn description(&self) -> &'static str {
        "Takes its time."
    }

    async fn run(&self, ctx: &Context, args: WorkArgs) -> Result<Value, Halt> {
        let ledger = LEDGER.get().cloned();
        let say = |what| {
            if let Some(ledger) = &ledger {
                ledger.write(what, ctx.job_id(), ctx.epoch(), std::process::id());
            }
        };
        say('s');
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while began.elapsed() < Duration::from_millis(args.ms.into()) {
            tick.tick().await;
        }
        say('e');
        Ok(json!({ "n": args.n, "epoch": ctx.epoch(), "pid": std::process::id() }))
    }
}
