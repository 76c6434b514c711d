//! A file that all processes append to: when which attempt of which job began and ended, what it wrote when it should not, and
//! who was killed. What the database says afterwards is held against it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use windlass::domain::status::{Outcome, Status};

use super::truth::Truth;

#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    read: Arc<Mutex<Known>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Began,
    Ended,
    Killed,
    /// A write of an attempt that may have lost its lease, and whether it was taken.
    Wrote(Write, bool),
}

/// What an attempt can write about its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Write {
    Progress,
    Lines,
    Checkpoint,
    Artifact,
    End,
}

impl Write {
    pub const ALL: [Self; 5] = [Self::Progress, Self::Lines, Self::Checkpoint, Self::Artifact, Self::End];
}

/// One attempt: its job and the epoch of its lease.
pub type Attempt = (Uuid, u64);

/// One line: what happened, when (milliseconds since 1970), to which attempt, in which process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Line {
    what: What,
    at: u64,
    job: Uuid,
    epoch: u64,
    pid: u32,
}

/// What has been read so far, and what it comes to.
#[derive(Debug, Default)]
struct Known {
    /// Bytes.
    until: u64,
    lines: Vec<Line>,
    /// Jobs of which some attempt came to its end.
    ended: HashSet<Uuid>,
    /// Attempts that have begun and not ended, with their processes, dead or alive.
    open: HashMap<Attempt, u32>,
    /// The newest epoch of each job that has begun.
    newest: HashMap<Uuid, u64>,
    tried: HashMap<Attempt, HashSet<Write>>,
}

impl Known {
    fn add(&mut self, line: Line) {
        let attempt = (line.job, line.epoch);
        match line.what {
            What::Began => {
                self.open.insert(attempt, line.pid);
                let newest = self.newest.entry(line.job).or_default();
                *newest = line.epoch.max(*newest);
            }
            What::Ended => {
                self.ended.insert(line.job);
                self.open.remove(&attempt);
            }
            What::Wrote(write, _) => {
                self.tried.entry(attempt).or_default().insert(write);
            }
            What::Killed => {}
        }
        self.lines.push(line);
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis() as u64
}

impl Ledger {
    pub fn open(path: PathBuf) -> Self {
        Self {
            path,
            read: Arc::default(),
        }
    }

    pub fn write(&self, what: What, (job, epoch): Attempt, pid: u32) {
        let at = now();
        let line = Line {
            what,
            at,
            job,
            epoch,
            pid,
        };
        let text = serde_json::to_string(&line).expect("a line") + "\n";
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("ledger");
    }

    pub fn killed(&self, pid: u32) {
        self.write(What::Killed, (Uuid::nil(), 0), pid);
    }

    /// Reads what has come since the last look.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.read.lock().expect("the ledger");
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(known.until)).expect("ledger");
            file.read_to_string(&mut text).expect("ledger");
        }
        // A line that is being written at this moment is read the next time.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        known.until += whole as u64;
        for line in text[..whole].lines() {
            known.add(serde_json::from_str(line).expect("a line"));
        }
        known
    }

    /// How many jobs there are of which some attempt came to its end.
    pub fn ended(&self) -> usize {
        self.known().ended.len()
    }

    /// What the process has begun and not ended.
    pub fn open_attempts(&self, pid: u32) -> Vec<Attempt> {
        let known = self.known();
        let open = known.open.iter().filter(|(_, by)| **by == pid);
        open.map(|(attempt, _)| *attempt).collect()
    }

    /// Whether a later attempt at the job has begun.
    pub fn overtaken(&self, (job, epoch): Attempt) -> bool {
        self.known().newest.get(&job).is_some_and(|newest| *newest > epoch)
    }

    /// Whether the attempt has tried to write all that can be written.
    pub fn tried_all(&self, attempt: Attempt) -> bool {
        let known = self.known();
        known.tried.get(&attempt).is_some_and(|t| t.len() == Write::ALL.len())
    }

    /// What went wrong, if anything.
    pub fn check(&self, truth: &Truth) -> Report {
        let known = self.known();
        let mut report = Report {
            jobs: truth.jobs.len(),
            drift: truth.drift,
            ..Report::default()
        };
        let killed = known.lines.iter().filter(|l| l.what == What::Killed);
        let killed: HashMap<u32, u64> = killed.map(|l| (l.pid, l.at)).collect();
        let mut open: HashMap<Uuid, Vec<Line>> = HashMap::new();
        let mut newest: HashMap<Uuid, u64> = HashMap::new();
        for line in &known.lines {
            let at_work = open.entry(line.job).or_default();
            match line.what {
                What::Began => {
                    report.attempts += 1;
                    let newest = newest.entry(line.job).or_default();
                    if line.epoch < *newest {
                        // Claimed before its process was stopped, and begun when others had taken it over.
                        report.overtaken += 1;
                        continue;
                    }
                    *newest = line.epoch;
                    for other in at_work.drain(..) {
                        match killed.get(&other.pid) {
                            Some(death) => report.recovery.add_ms(line.at.saturating_sub(*death)),
                            // Alive, and without a lease: it was too slow to renew it, or was stopped.
                            None => report.overtaken += 1,
                        }
                    }
                    at_work.push(*line);
                }
                What::Ended => at_work.retain(|other| other.epoch != line.epoch),
                What::Killed => {
                    report.kills += 1;
                    let held = open.values().flatten().any(|begun| begun.pid == line.pid);
                    report.kills_in_mid_job += usize::from(held);
                }
                // Until the job has begun anew, the lease may have been its own after all.
                What::Wrote(_, true) if newest.get(&line.job) == Some(&line.epoch) => {}
                What::Wrote(write, true) => {
                    *report.taken.entry(write).or_default() += 1;
                    report.stale_accepted += 1;
                }
                What::Wrote(write, false) => *report.refused.entry(write).or_default() += 1,
            }
        }
        for told in &truth.jobs {
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
        report
    }
}

/// How long something took, again and again.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    fn add_ms(&mut self, ms: u64) {
        self.add(Duration::from_millis(ms));
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
        match (at(50), at(99)) {
            (Some(p50), Some(p99)) => {
                let (p50, p99) = (p50.as_millis(), p99.as_millis());
                write!(f, "p50 {p50} ms, p99 {p99} ms of {}", sorted.len())
            }
            _ => f.write_str("none"),
        }
    }
}

/// By how much what is kept about all jobs differs from what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The counts by status, kind and queue.
    pub counts: i64,
    /// Those of the batches.
    pub batches: i64,
    /// Places of limits that nobody takes and that are not free.
    pub holds: i64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub jobs: usize,
    pub attempts: usize,
    pub kills: usize,
    /// Those that hit a process with an attempt that had begun and not ended.
    pub kills_in_mid_job: usize,
    pub lost: usize,
    pub leases_at_once: usize,
    /// Attempts that still ran when their lease had run out and the job had begun anew: what they write is refused.
    pub overtaken: usize,
    pub stale_accepted: usize,
    pub taken: BTreeMap<Write, usize>,
    pub refused: BTreeMap<Write, usize>,
    pub drift: Drift,
    pub recovery: Times,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            jobs,
            attempts,
            kills,
            kills_in_mid_job,
            lost,
            leases_at_once,
            overtaken,
            stale_accepted,
            taken,
            refused,
            drift,
            recovery,
        } = self;
        write!(
            f,
            "{jobs} jobs, {attempts} attempts, {kills} kills, {kills_in_mid_job} of them in mid-job: lost {lost}, two leases at \
             once {leases_at_once}, stale writes accepted {stale_accepted}, overtaken {overtaken}, drift of counts {}, of \
             batches {}, of limits {}; recovery {recovery}",
            drift.counts, drift.batches, drift.holds
        )?;
        if !refused.is_empty() || !taken.is_empty() {
            write!(f, "; stale writes refused {refused:?}, accepted {taken:?}")?;
        }
        Ok(())
    }
}
