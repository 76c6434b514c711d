//! Moments and spans of time, and how people read them.

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment in UTC. (Structs that the API's document describes spell the type out: it goes by names.) On the wire RFC 3339; in the database milliseconds since 1970.
pub type Timestamp = DateTime<Utc>;

/// The moment `ms` milliseconds after 1970-01-01T00:00:00Z; out-of-range values are clamped to the epoch.
pub fn from_millis(ms: i64) -> Timestamp {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}

/// "just now", "2 minutes ago", "in 3 hours": the distance from `now` to `then` in its largest unit.
pub fn relative(then: Timestamp, now: Timestamp) -> String {
    let seconds = (now - then).num_seconds();
    if seconds.abs() < 5 {
        return "just now".into();
    }
    let size = seconds.unsigned_abs();
    let (count, unit) = match size {
        0..60 => (size, "second"),
        60..3_600 => (size / 60, "minute"),
        3_600..86_400 => (size / 3_600, "hour"),
        86_400..2_592_000 => (size / 86_400, "day"),
        2_592_000..31_536_000 => (size / 2_592_000, "month"),
        _ => (size / 31_536_000, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if seconds > 0 {
        format!("{count} {unit}{plural} ago")
    } else {
        format!("in {count} {unit}{plural}")
    }
}

/// "0.4 s", "12 s", "3 min 05 s", "2 h 10 min", "1 d 04 h": a span as people read it.
pub fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let s = ms / 1_000;
    match s {
        0..10 => format!("{}.{} s", s, ms % 1_000 / 100),
        10..60 => format!("{s} s"),
        60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {:02} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {:02} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// "2026-03-01" and "14:05:09" or "14:05:09.250". Not by a format string: the reader of those alone is a tenth of what a
/// page downloads for times.
fn parts(t: Timestamp, digits: SecondsFormat) -> (String, String) {
    let text = t.to_rfc3339_opts(digits, true);
    let (date, time) = text.split_once('T').unwrap_or_default();
    (date.to_string(), time.trim_end_matches('Z').to_string())
}

/// "2026-03-01 14:05:09 UTC".
pub fn exact(t: Timestamp) -> String {
    let (date, time) = parts(t, SecondsFormat::Secs);
    format!("{date} {time} UTC")
}

/// "2026-03-01 14:05:09.250 UTC".
pub fn exact_millis(t: Timestamp) -> String {
    let (date, time) = parts(t, SecondsFormat::Millis);
    format!("{date} {time} UTC")
}

/// "14:05:09".
pub fn clock(t: Timestamp) -> String {
    parts(t, SecondsFormat::Secs).1
}

/// "2026-03-01T14:05:09" in UTC, as a browser's control for date and time takes it.
pub fn to_input(t: Timestamp) -> String {
    let (date, time) = parts(t, SecondsFormat::Secs);
    format!("{date}T{time}")
}

/// What such a control gives ("2026-03-01T14:05", with seconds or without), read as UTC.
pub fn from_input(text: &str) -> Option<Timestamp> {
    let seconds = if text.len() == 16 { ":00" } else { "" };
    format!("{text}{seconds}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_uses_the_largest_unit_and_both_directions() {
        let now = from_millis(1_700_000_000_000);
        let at = |s: i64| relative(now - chrono::TimeDelta::seconds(s), now);
        assert_eq!(at(0), "just now");
        assert_eq!(at(59), "59 seconds ago");
        assert_eq!(at(60), "1 minute ago");
        assert_eq!(at(120), "2 minutes ago");
        assert_eq!(at(86_400), "1 day ago");
        assert_eq!(at(-7_200), "in 2 hours");
        assert_eq!(at(40_000_000), "1 year ago");
    }

    #[test]
    fn moments_are_written_for_people_and_for_controls() {
        let t = from_millis(1_772_373_909_250);
        assert_eq!(exact(t), "2026-03-01 14:05:09 UTC");
        assert_eq!(exact_millis(t), "2026-03-01 14:05:09.250 UTC");
        assert_eq!(clock(t), "14:05:09");
        assert_eq!(to_input(t), "2026-03-01T14:05:09");
        assert_eq!(from_input("2026-03-01T14:05:09"), Some(from_millis(1_772_373_909_000)));
        assert_eq!(from_input("2026-03-01T14:05"), Some(from_millis(1_772_373_900_000)));
        assert_eq!(from_input(""), None);
        assert_eq!(from_input("2026-02-30T14:05"), None);
    }

    #[test]
    fn durations_read_well_at_every_size() {
        assert_eq!(duration(-5), "0.0 s");
        assert_eq!(duration(450), "0.4 s");
        assert_eq!(duration(12_000), "12 s");
        assert_eq!(duration(185_000), "3 min 05 s");
        assert_eq!(duration(7_800_000), "2 h 10 min");
        assert_eq!(duration(100_800_000), "1 d 04 h");
    }
}
