//! How often passwords may be guessed at.

use super::Service;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::network::network_of;
use crate::server::store::sessions::Failures;

/// Failed sign-ins in a row before the next one has to wait: of one account from one network, and of one account or one network.
const FREE_PAIR: u64 = 5;
const FREE_ONE: u64 = 20;
/// The longest wait after a failed sign-in, in milliseconds; and how long failures are remembered.
const WAIT_MAX_MS: i64 = 900_000;
pub(super) const FORGET_MS: i64 = 86_400_000;

/// Milliseconds that a sign-in has to wait after so many failures, of which `free` cost nothing: 1 s, 2 s, 4 s, …
fn wait_ms(failures: Failures, free: u64) -> i64 {
    match failures.n.checked_sub(free) {
        None => 0,
        Some(over) => 1_000i64.saturating_mul(1 << over.min(20)).min(WAIT_MAX_MS),
    }
}

/// Milliseconds that are left to wait after what has failed so far of the account, from the network, and of both together.
fn left_ms([account, network, pair]: [Failures; 3], now: i64) -> i64 {
    let left = |failures: Failures, free| match now - failures.last_at < FORGET_MS {
        true => failures.last_at + wait_ms(failures, free) - now,
        false => 0,
    };
    left(account, FREE_ONE)
        .max(left(network, FREE_ONE))
        .max(left(pair, FREE_PAIR))
}

/// What wrong passwords are counted under. By the network, or whoever has one of IPv6 would guess from another address each time.
pub(super) fn names(email: &str, address: &str) -> [String; 3] {
    let network = network_of(address);
    [
        format!("account {email}"),
        format!("address {network}"),
        format!("account {email} address {network}"),
    ]
}

impl Service {
    /// Refuses a password that comes too soon after wrong ones, and counts it as another wrong one until
    /// [`Store::forget_failures`](crate::server::store::Store::forget_failures) says otherwise: many that are sent at the same
    /// moment are counted, too.
    pub(super) async fn may_try(&self, names: &[String; 3]) -> Result<(), Problem> {
        let left = self.store.try_password(names.clone(), FORGET_MS, left_ms).await?;
        if left <= 0 {
            return Ok(());
        }
        let seconds = u64::try_from(left).unwrap_or(0).div_ceil(1_000);
        let detail = format!("Too many sign-ins have failed; try again in {seconds} s.");
        Err(Problem::new(ProblemCode::RateLimited, detail).retry_after(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let after = |n| wait_ms(Failures { n, last_at: 0 }, FREE_PAIR);
        assert_eq!((after(0), after(4)), (0, 0));
        assert_eq!((after(5), after(6), after(10)), (1_000, 2_000, 32_000));
        assert_eq!((after(15), after(1_000_000)), (WAIT_MAX_MS, WAIT_MAX_MS));
    }

    #[test]
    fn guesses_from_one_network_are_counted_together() {
        let from = |address| names("ada@example.org", address);
        assert_eq!(from("2001:db8::1"), from("2001:db8::2"));
        let ([account, network, pair], other) = (from("2001:db8::1"), from("2001:db8:0:1::1"));
        assert_eq!(account, other[0]);
        assert!(network != other[1] && pair != other[2]);
    }
}
