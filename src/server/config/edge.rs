//! What strangers may take: connections, requests, streams, and room for files.

use std::time::Duration;

use super::{ConfigError, Source};

/// Limits of the door, and of the disk behind it.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// Open connections in all.
    pub connections_max: u32,
    /// Open connections of one address (of IPv6, one network of 64 bits).
    pub connections_per_address: u32,
    /// How long a client may take for a request's head, and stall in its body or in taking the answer.
    pub client_timeout: Duration,
    /// Requests of one caller a second, in the long run; none: any number.
    pub requests_per_second: Option<u32>,
    /// Requests that a caller who was quiet may send at once.
    pub requests_burst: u32,
    /// Open event streams and WebSockets of one caller.
    pub streams_per_caller: u32,
    /// Bytes of uploads that are kept in all, and of one person's.
    pub uploads_max_total: u64,
    pub uploads_max_user: u64,
    /// Bytes of artifacts that are kept in all, and of one job's.
    pub artifacts_max_total: u64,
    pub artifacts_max_job: u64,
}

impl Edge {
    pub(super) fn from<E: Fn(&str) -> Option<String>>(source: &Source<E>) -> Result<Self, ConfigError> {
        let whole = |name, least, most| {
            source
                .number(name, least..=most)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
        };
        Ok(Self {
            connections_max: whole("connections_max", 1, 1_000_000)?,
            connections_per_address: whole("connections_per_address", 1, 1_000_000)?,
            client_timeout: source.duration("client_timeout", Duration::from_secs(1), Duration::from_secs(3_600))?,
            requests_per_second: Some(whole("requests_per_second", 0, 1_000_000)?).filter(|n| *n > 0),
            requests_burst: whole("requests_burst", 1, 1_000_000)?,
            streams_per_caller: whole("streams_per_caller", 1, 100_000)?,
            uploads_max_total: source.size("uploads_max_total")?,
            uploads_max_user: source.size("uploads_max_user")?,
            artifacts_max_total: source.size("artifacts_max_total")?,
            artifacts_max_job: source.size("artifacts_max_job")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    #[test]
    fn what_strangers_may_take_has_bounds() {
        let edge = load(&[("REQUESTS_PER_SECOND", "0")]).expect("settings").edge;
        assert_eq!(edge.requests_per_second, None);
        assert!(edge.uploads_max_user <= edge.uploads_max_total);
        for (name, value, allowed) in [
            ("CONNECTIONS_MAX", "0", "1 to 1000000"),
            ("CONNECTIONS_PER_ADDRESS", "-1", "1 to 1000000"),
            ("CLIENT_TIMEOUT", "10ms", "1s"),
            ("REQUESTS_PER_SECOND", "many", "0 to 1000000"),
            ("REQUESTS_BURST", "0", "1 to 1000000"),
            ("STREAMS_PER_CALLER", "0", "1 to 100000"),
            ("UPLOADS_MAX_TOTAL", "0", "2GB"),
            ("UPLOADS_MAX_USER", "much", "2GB"),
            ("ARTIFACTS_MAX_TOTAL", "", "2GB"),
            ("ARTIFACTS_MAX_JOB", "0B", "2GB"),
        ] {
            if value.is_empty() {
                // What is empty counts as not set.
                assert!(load(&[(name, value)]).is_ok(), "{name}");
                continue;
            }
            let text = load(&[(name, value)]).expect_err(name).to_string();
            assert!(
                text.contains(name) && text.contains(value) && text.contains(allowed),
                "{text}"
            );
        }
    }
}
