//! How much each caller may ask for: requests by a leaky bucket (GCRA), and open streams.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::error::{Problem, ProblemCode};
use crate::domain::network::network;
use crate::domain::user::Actor;
use crate::server::config::Edge;

/// Parties that are remembered before those are looked for who have been quiet long enough to be forgotten.
const REMEMBERED: usize = 1_024;

/// Whom something is counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A person (all of their sessions together), or a token.
    Known(&'static str, String),
    /// Somebody unknown, by their network; none where the address is not known.
    Network(Option<IpAddr>),
}

impl Party {
    pub fn of(actor: Option<&Actor>, address: Option<IpAddr>) -> Self {
        match actor {
            Some(actor) => Self::Known(actor.via.as_str(), actor.name.clone()),
            None => Self::Network(address.map(network)),
        }
    }
}

/// So many at a time, and after that one every so often.
#[derive(Clone, Copy, Debug)]
struct Rate {
    every: Duration,
    /// The time that a whole burst is worth.
    depth: Duration,
}

impl Rate {
    /// When the party would have its whole burst again if it took one. `full_at`: when it has it now. `Err`: how long to wait.
    fn next(&self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let next = full_at.max(now) + self.every;
        match next.checked_sub(now + self.depth).filter(|over| !over.is_zero()) {
            Some(over) => Err(over),
            None => Ok(next),
        }
    }

    /// Takes one.
    fn take(&self, full_at: &mut Duration, now: Duration) -> Result<(), Duration> {
        *full_at = self.next(*full_at, now)?;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Spent {
    full_at: HashMap<Party, Duration>,
    /// At so many it is time to forget some.
    sweep_at: usize,
}

/// Counts what callers ask for. Without settings, as its default is, nobody is limited.
#[derive(Debug)]
pub struct Callers {
    began: Instant,
    rate: Option<Rate>,
    per_second: u32,
    spent: Mutex<Spent>,
    streams_max: usize,
    streams: Arc<Tally<Party>>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            rate: None,
            per_second: 0,
            spent: Mutex::default(),
            streams_max: usize::MAX,
            streams: Arc::default(),
        }
    }
}

impl Callers {
    pub fn new(edge: &Edge) -> Self {
        let rate = edge.requests_per_second.map(|n| {
            let every = Duration::from_secs(1) / n.max(1);
            Rate {
                every,
                depth: every * edge.requests_burst,
            }
        });
        Self {
            rate,
            per_second: edge.requests_per_second.unwrap_or_default(),
            streams_max: edge.streams_per_caller as usize,
            ..Self::default()
        }
    }

    /// Counts a request. The problem says after how many seconds the next one is worth a try.
    pub fn request(&self, party: &Party) -> Result<(), Problem> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = self.began.elapsed();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.full_at.len() >= spent.sweep_at.max(REMEMBERED) {
            spent.full_at.retain(|_, full_at| *full_at > now);
            spent.sweep_at = spent.full_at.len() * 2;
        }
        let waiting = match spent.full_at.get_mut(party) {
            Some(full_at) => rate.take(full_at, now),
            None => {
                let mut full_at = now;
                let taken = rate.take(&mut full_at, now);
                spent.full_at.insert(party.clone(), full_at);
                taken
            }
        };
        waiting.map_err(|wait| self.too_many(wait))
    }

    /// Refuses a party that has no request left, and counts none.
    pub fn turn(&self, party: &Party) -> Result<(), Problem> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = self.began.elapsed();
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = spent.full_at.get(party).copied().unwrap_or(now);
        rate.next(full_at, now).map(|_| ()).map_err(|wait| self.too_many(wait))
    }

    fn too_many(&self, wait: Duration) -> Problem {
        let detail = format!(
            "more than {} requests a second, which is what one caller may send in the long run (REQUESTS_PER_SECOND)",
            self.per_second
        );
        Problem::new(ProblemCode::RateLimited, detail).retry_after(wait.as_secs() + 1)
    }

    /// Counts an open stream for as long as the answer is kept.
    pub fn stream(&self, party: &Party) -> Result<Counted<Party>, Problem> {
        self.streams.enter(party.clone(), self.streams_max).ok_or_else(|| {
            let detail = format!(
                "{} streams are open, as many as one caller may have (STREAMS_PER_CALLER); close one",
                self.streams_max
            );
            Problem::new(ProblemCode::RateLimited, detail).retry_after(30)
        })
    }
}

/// How many of something there are of each.
#[derive(Debug)]
pub struct Tally<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Tally<K> {
    /// One more of `key`, unless there are `max`.
    pub fn enter(self: &Arc<Self>, key: K, max: usize) -> Option<Counted<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted {
            key,
            tally: self.clone(),
        })
    }
}

/// Counts until it is dropped.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash> {
    key: K,
    tally: Arc<Tally<K>>,
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let ms = Duration::from_millis;
        let rate = Rate {
            every: ms(100),
            depth: ms(300),
        };
        let mut full_at = Duration::ZERO;
        let now = ms(5_000);
        for _ in 0..3 {
            assert_eq!(rate.take(&mut full_at, now), Ok(()));
        }
        assert_eq!(rate.take(&mut full_at, now), Err(ms(100)));
        assert_eq!(rate.take(&mut full_at, now + ms(40)), Err(ms(60)));
        assert_eq!(rate.take(&mut full_at, now + ms(100)), Ok(()));
        assert_eq!(rate.take(&mut full_at, now + ms(100)), Err(ms(100)));
        // A rest gives the burst back, and no more than that.
        let later = now + ms(60_000);
        let taken = (0..10).filter(|_| rate.take(&mut full_at, later).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn one_caller_does_not_use_up_anothers() {
        let callers = Callers {
            rate: Some(Rate {
                every: Duration::from_secs(3_600),
                depth: Duration::from_secs(7_200),
            }),
            streams_max: 1,
            ..Callers::default()
        };
        let of = |address: &str| Party::of(None, Some(address.parse().expect("address")));
        let one = of("2001:db8::1");
        for _ in 0..5 {
            assert!(
                callers.turn(&one).is_ok(),
                "asking whether it is one's turn costs nothing"
            );
        }
        assert!(callers.request(&one).is_ok() && callers.request(&of("2001:db8::2")).is_ok());
        assert!(callers.turn(&one).is_err());
        let refused = callers.request(&of("2001:db8::ffff:3")).expect_err("same network");
        assert_eq!(refused.code, ProblemCode::RateLimited);
        assert!(refused.retry_after.is_some_and(|s| (1..=3_601).contains(&s)));
        assert!(callers.request(&of("2001:db8:0:1::1")).is_ok());
        assert!(callers.request(&of("192.0.2.1")).is_ok() && callers.request(&of("192.0.2.2")).is_ok());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        let open = callers.stream(&one).expect("the first");
        assert!(callers.stream(&one).is_err());
        assert!(callers.stream(&of("192.0.2.1")).is_ok());
        drop(open);
        assert!(callers.stream(&one).is_ok());
    }

    #[test]
    fn who_has_been_quiet_is_forgotten() {
        let callers = Callers {
            rate: Some(Rate {
                every: Duration::from_nanos(1),
                depth: Duration::from_nanos(2),
            }),
            ..Callers::default()
        };
        for n in 0..10_000u32 {
            let _ = callers.request(&Party::Network(Some(std::net::Ipv4Addr::from_bits(n).into())));
        }
        let known = callers.spent.lock().expect("spent").full_at.len();
        assert!(known <= REMEMBERED, "{known}");
    }
}
