//! What is logged of a trouble that lasts stays bounded, however many meet it.

use std::time::{Duration, Instant};

/// How often a trouble that lasts is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// One kind of trouble, as far as it was logged.
#[derive(Debug)]
pub(super) struct Trouble {
    logged: Option<Instant>,
    quiet: u64,
}

impl Trouble {
    pub const fn new() -> Self {
        Self { logged: None, quiet: 0 }
    }

    /// It was met once more: when another line in the log is due, how many were left out since the last one.
    pub fn met(&mut self, now: Instant) -> Option<u64> {
        if self
            .logged
            .is_some_and(|at| now.saturating_duration_since(at) < LOG_EVERY)
        {
            self.quiet += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_that_lasts_is_logged_now_and_then_with_how_many_were_left_out() {
        let began = Instant::now();
        let mut trouble = Trouble::new();
        assert_eq!(trouble.met(began), Some(0));
        for _ in 0..1_000 {
            assert_eq!(trouble.met(began + LOG_EVERY / 2), None);
        }
        assert_eq!(trouble.met(began + LOG_EVERY), Some(1_000));
        assert_eq!(trouble.met(began + LOG_EVERY), None);
    }
}
