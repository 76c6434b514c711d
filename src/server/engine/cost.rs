//! What an attempt costs: the CPU time of its own code, on the threads that poll it and those of its blocking parts. What the
//! database does for it is not in it.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU time so far.
#[derive(Default)]
pub(super) struct Cost(AtomicU64);

impl Cost {
    /// Runs `f` and adds the CPU time that this thread spent on it.
    pub fn measure<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = thread_time();
        let value = f();
        self.0
            .fetch_add(thread_time().saturating_sub(before), Ordering::Relaxed);
        value
    }

    /// Runs `future` and adds the CPU time of its polls.
    pub async fn meter<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| self.measure(|| future.as_mut().poll(cx))).await
    }

    pub fn millis(&self) -> u64 {
        (self.0.load(Ordering::Relaxed) + 500_000) / 1_000_000
    }
}

/// Nanoseconds of CPU time that this thread has spent.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works until this thread has spent so much.
    fn spend(ms: u64) {
        let until = thread_time() + ms * 1_000_000;
        while thread_time() < until {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn work_counts_and_waiting_does_not() {
        let cost = Cost::default();
        cost.meter(async {
            spend(20);
            tokio::task::yield_now().await;
            spend(20);
        })
        .await;
        cost.measure(|| spend(10));
        assert!((50..1_000).contains(&cost.millis()), "{}", cost.millis());
    }
}
