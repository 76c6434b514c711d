//! Jobs of one call that wait for each other: labels for ids that are not known yet, and an order in which each comes behind
//! what it waits for.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::domain::error::Problem;
use crate::domain::job::{JobId, Needs, NewJob};
use crate::domain::queue::valid_name;
use crate::server::store::enqueue::Enqueue;

/// Bytes of a label.
const LABEL_MAX: usize = 100;

/// The labels of a call with the ids that their jobs get.
#[derive(Default)]
pub(super) struct Labels {
    /// By label: the job's place in the call, and its id.
    labels: HashMap<String, (usize, JobId)>,
    ids: HashSet<JobId>,
}

impl Labels {
    /// Those of a call, or what is wrong with them.
    pub fn of(jobs: &[NewJob]) -> Result<Self, Problem> {
        let mut known = Self::default();
        for (i, job) in jobs.iter().enumerate() {
            let Some(label) = &job.label else { continue };
            let field = format!("jobs[{i}].label");
            if !valid_name(label, LABEL_MAX) {
                return Err(Problem::invalid(
                    field,
                    format!("a label has 1 to {LABEL_MAX} bytes and no control characters"),
                ));
            }
            let id = Uuid::now_v7();
            if let Some((first, _)) = known.labels.insert(label.clone(), (i, id)) {
                let detail = format!("label \"{label}\" is that of jobs[{first}], too; give each job another");
                return Err(Problem::invalid(field, detail));
            }
            known.ids.insert(id);
        }
        Ok(known)
    }

    /// The ids of the jobs that are named.
    pub fn resolve(&self, needs: &[Needs]) -> Result<Vec<JobId>, Problem> {
        let id = |need: &Needs| {
            match need {
            Needs::Job(id) => Ok(*id),
            Needs::Label(label) => self.labels.get(label).map(|(_, id)| *id).ok_or_else(|| {
                let mut label = label.clone();
                crate::domain::error::truncate(&mut label, 80);
                let detail = format!(
                    "depends_on names @{label}, and no job of this call has that label; allowed are ids of jobs that exist, \
                     and labels of jobs of the same call"
                );
                Problem::invalid("depends_on", detail)
            }),
        }
        };
        needs.iter().map(id).collect()
    }

    /// Whether this is the id of a labelled job.
    pub fn has(&self, id: &JobId) -> bool {
        self.ids.contains(id)
    }

    /// The ids of the jobs of the call, in their order.
    pub fn ids(&self, jobs: &[Enqueue]) -> Vec<JobId> {
        let mut ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        for (i, id) in self.labels.values() {
            ids[*i] = *id;
        }
        ids
    }

    /// The places of the jobs in an order in which each comes behind those that it waits for, otherwise as they were given;
    /// jobs that wait for each other are refused.
    pub fn order(&self, jobs: &[Enqueue]) -> Result<Vec<usize>, Problem> {
        if self.labels.is_empty() {
            return Ok((0..jobs.len()).collect());
        }
        let places: HashMap<JobId, usize> = jobs.iter().enumerate().map(|(i, job)| (job.id, i)).collect();
        let needs = |i: usize| jobs[i].depends_on.iter().filter_map(|id| places.get(id).copied());
        let mut order = Vec::with_capacity(jobs.len());
        let mut state = vec![Visit::New; jobs.len()];
        for start in 0..jobs.len() {
            // A walk without recursion: chains may be as long as a call.
            let mut path = vec![(start, 0)];
            while let Some((i, next)) = path.pop() {
                match state[i] {
                    Visit::Done => continue,
                    Visit::New => state[i] = Visit::Open,
                    Visit::Open => {}
                }
                match needs(i).nth(next) {
                    None => {
                        state[i] = Visit::Done;
                        order.push(i);
                    }
                    Some(need) => {
                        path.push((i, next + 1));
                        match state[need] {
                            Visit::New => path.push((need, 0)),
                            Visit::Open => return Err(self.cycle(&path, need)),
                            Visit::Done => {}
                        }
                    }
                }
            }
        }
        Ok(order)
    }

    fn cycle(&self, path: &[(usize, usize)], at: usize) -> Problem {
        let names: HashMap<usize, &String> = self.labels.iter().map(|(label, (i, _))| (*i, label)).collect();
        let name = |i: usize| {
            names
                .get(&i)
                .map_or_else(|| format!("jobs[{i}]"), |label| format!("@{label}"))
        };
        let ring = path.iter().map(|(i, _)| *i).skip_while(|i| *i != at);
        let mut ring: Vec<String> = ring.map(name).collect();
        ring.push(name(at));
        let mut told = ring.join(" waits for ");
        crate::domain::error::truncate(&mut told, 500);
        Problem::invalid(
            format!("jobs[{at}].depends_on"),
            format!("{told}: jobs that wait for each other would never start"),
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::kind::Policy;

    fn call(jobs: &[(&str, &[&str])]) -> Result<Vec<usize>, Problem> {
        let wishes: Vec<NewJob> = jobs
            .iter()
            .map(|(label, needs)| NewJob {
                label: (!label.is_empty()).then(|| (*label).to_string()),
                depends_on: needs.iter().map(|n| Needs::Label((*n).to_string())).collect(),
                ..NewJob::of("echo", json!({}))
            })
            .collect();
        let labels = Labels::of(&wishes)?;
        let mut stored = Vec::new();
        for wish in &wishes {
            stored.push(Enqueue {
                depends_on: labels.resolve(&wish.depends_on)?,
                ..Enqueue::of("echo", "ada", json!({}), &Policy::DEFAULT)
            });
        }
        let ids = labels.ids(&stored);
        for (job, id) in stored.iter_mut().zip(ids) {
            job.id = id;
        }
        labels.order(&stored)
    }

    #[test]
    fn each_comes_behind_what_it_waits_for() {
        assert_eq!(call(&[("", &[]), ("", &[])]), Ok(vec![0, 1]));
        assert_eq!(
            call(&[("a", &["b"]), ("b", &["c"]), ("c", &[]), ("", &[])]),
            Ok(vec![2, 1, 0, 3])
        );
        let long: Vec<(String, String)> = (0..10_000).map(|i| (format!("{i}"), format!("{}", i + 1))).collect();
        let mut jobs: Vec<(&str, Vec<&str>)> = long.iter().map(|(a, b)| (a.as_str(), vec![b.as_str()])).collect();
        jobs.push(("10000", Vec::new()));
        let jobs: Vec<(&str, &[&str])> = jobs.iter().map(|(a, b)| (*a, b.as_slice())).collect();
        assert_eq!(call(&jobs).map(|order| order[0]), Ok(10_000));
    }

    #[test]
    fn rings_and_unknown_or_double_labels_are_refused() {
        let told = |jobs: &[(&str, &[&str])]| call(jobs).expect_err("refused").detail;
        assert!(told(&[("a", &["a"])]).starts_with("@a waits for @a:"));
        let ring = told(&[("x", &[]), ("a", &["x", "b"]), ("b", &["c"]), ("c", &["a"])]);
        assert!(ring.starts_with("@a waits for @b waits for @c waits for @a:"), "{ring}");
        assert!(told(&[("a", &["nobody"])]).contains("@nobody"));
        assert!(told(&[("a", &[]), ("a", &[])]).contains("jobs[0]"));
    }
}
