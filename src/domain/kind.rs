//! What is known about a kind of job: how it is described, tried again and limited.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long to wait before another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// 1, 2, 4, 8, 16 … times the base.
    Exponential,
    /// 1, 2, 3, 4 … times the base.
    Linear,
    /// Always the base.
    Fixed,
}

/// When and how often a failed job is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Policy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    pub backoff: Backoff,
    /// Milliseconds.
    pub base_ms: u64,
    /// No wait is longer than this many milliseconds, jitter included.
    pub cap_ms: u64,
    /// Up to this many percent are added to the wait at random, so that jobs that failed together don't return together.
    pub jitter_percent: u32,
    /// An attempt that runs for longer than this many seconds fails with `TIMEOUT`.
    pub timeout_s: u64,
    /// How many of the kind run at the same time in the whole system; absent: as many as there are slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// How many of the kind are begun within a time; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// So many jobs within so long. Windows of that length follow each other; each lets so many begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Rate {
    pub jobs: u32,
    /// Milliseconds.
    pub per_ms: u64,
}

impl Policy {
    /// Five attempts, 1, 2, 4 and 8 seconds apart, ten minutes each: what holds where neither settings nor the kind say
    /// otherwise.
    pub const DEFAULT: Self = Self {
        max_attempts: 5,
        backoff: Backoff::Exponential,
        base_ms: 1_000,
        cap_ms: 3_600_000,
        jitter_percent: 10,
        timeout_s: 600,
        max_running: None,
        rate: None,
    };

    /// Milliseconds to wait after attempt number `round` of this round (from 1) failed. `random` in 0..1 is the jitter's draw.
    pub fn delay_ms(&self, round: u32, random: f64) -> u64 {
        let n = round.max(1);
        let factor = match self.backoff {
            Backoff::Exponential => 2u64.saturating_pow((n - 1).min(62)),
            Backoff::Linear => u64::from(n),
            Backoff::Fixed => 1,
        };
        let wait = self.base_ms.saturating_mul(factor).min(self.cap_ms);
        let jitter = wait as f64 * f64::from(self.jitter_percent) / 100.0 * random.clamp(0.0, 1.0);
        wait.saturating_add(jitter as u64).min(self.cap_ms)
    }
}

/// One kind as `GET /api/jobs/types` lists it. Made by the registry; the same for every caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct KindInfo {
    /// The name on the wire, `export`.
    pub name: String,
    /// The name that people read, "Export".
    pub label: String,
    /// What it does, in a sentence or two.
    pub description: String,
    /// JSON Schema (2020-12) of its args. A property with `"format": "windlass-upload"` takes an uploaded file's id.
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args_schema: Value,
    pub policy: Policy,
    /// Whether a running job of this kind can be paused.
    pub checkpoints: bool,
    /// Whether workers outside of the binary run it, which have declared it.
    #[serde(default)]
    pub external: bool,
}

/// Bytes of a kind's name.
pub const KIND_NAME_MAX: usize = 64;

/// Whether workers outside of the binary run jobs of this kind. Those kinds' names have a dot, and no others.
pub fn is_external(kind: &str) -> bool {
    kind.contains('.')
}

/// Checks the name of a kind that such workers run: parts of `a-z 0-9 _`, each beginning with a letter, with dots between them.
pub fn valid_external(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.len() <= KIND_NAME_MAX && is_external(name) && name.split('.').all(part)
}

/// "batch_audit" as people read it: "Batch audit"; "images.resize" is "Images: resize".
pub fn label(name: &str) -> String {
    let spaced = name.replace(['_', '-'], " ").replace('.', ": ");
    let mut chars = spaced.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => spaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff) -> Policy {
        Policy {
            max_attempts: 5,
            backoff,
            base_ms: 1_000,
            cap_ms: 10_000,
            jitter_percent: 10,
            timeout_s: 600,
            max_running: None,
            rate: None,
        }
    }

    #[test]
    fn waits_follow_the_backoff_and_its_cap() {
        let waits = |b, r| (1..=5).map(|n| policy(b).delay_ms(n, r)).collect::<Vec<_>>();
        assert_eq!(waits(Backoff::Exponential, 0.0), [1_000, 2_000, 4_000, 8_000, 10_000]);
        assert_eq!(waits(Backoff::Linear, 0.0), [1_000, 2_000, 3_000, 4_000, 5_000]);
        assert_eq!(waits(Backoff::Fixed, 1.0), [1_100; 5]);
        assert_eq!(policy(Backoff::Exponential).delay_ms(200, 1.0), 10_000);
    }

    #[test]
    fn labels_are_readable() {
        assert_eq!(label("batch_audit"), "Batch audit");
        assert_eq!(label("re-evaluation"), "Re evaluation");
        assert_eq!(label("images.make_small"), "Images: make small");
        assert_eq!(label(""), "");
    }
}
