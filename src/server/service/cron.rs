//! When a cron rule falls due. Rules are read in the time of their zone: in an hour that the clocks skip, a run is due at that
//! hour's end; in one that they repeat, it is due the first time.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::domain::error::Problem;

/// A rule in its zone.
#[derive(Clone, Debug)]
pub struct Rule {
    cron: Cron,
    zone: Tz,
}

impl Rule {
    /// Reads a rule, or says what is wrong with it.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, Problem> {
        let refused = |why: &dyn std::fmt::Display| {
            Problem::invalid(
                "cron",
                format!(
                    "cron \"{cron}\" can't be read: {why}; allowed are five fields (minute, hour, day of the month, month, \
                     day of the week), like 30 2 * * 1-5, or six with seconds first"
                ),
            )
        };
        // The parser takes an empty item of a list for nothing, and for ever looks for the second that is none.
        let holes = |field: &str| field.split(',').any(str::is_empty);
        if let Some(field) = cron.split_whitespace().find(|field| holes(field)) {
            return Err(refused(&format_args!(
                "in \"{field}\" something is missing beside a comma"
            )));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        let parsed = parser.parse(cron).map_err(|e| refused(&e))?;
        let pattern = &parsed.pattern;
        for (name, field) in [
            ("seconds", &pattern.seconds),
            ("minutes", &pattern.minutes),
            ("hours", &pattern.hours),
            ("months", &pattern.months),
        ] {
            if field.values().is_empty() {
                return Err(refused(&format_args!("it names no {name}")));
            }
        }
        let zone = Tz::from_str(zone).map_err(|_| {
            Problem::invalid(
                "time_zone",
                format!("time_zone \"{zone}\" is not known; allowed are IANA names, like UTC or Europe/Berlin"),
            )
        })?;
        Ok(Self { cron: parsed, zone })
    }

    /// In words.
    pub fn describe(&self) -> String {
        self.cron.describe()
    }

    /// The first moment after `after` at which it falls due; none when it never does again.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The wall clock's time, as if it never jumped: later readings come at later moments, or at the same one where they
        // lie in a gap.
        let mut wall = self.reached(after);
        loop {
            let next = self.cron.find_next_occurrence(&wall.and_utc(), false).ok()?;
            wall = next.naive_utc();
            let moment = self.moment(wall);
            if moment > after {
                return Some(moment);
            }
        }
    }

    /// The furthest that the wall clock has come by then, in whole seconds: what it shows or, while it repeats what it has
    /// shown already, its last reading before it went back.
    fn reached(&self, by: DateTime<Utc>) -> NaiveDateTime {
        let by = by.with_nanosecond(0).unwrap_or(by);
        let shown = |moment: DateTime<Utc>| moment.with_timezone(&self.zone).naive_local();
        let chrono::LocalResult::Ambiguous(first, _) = self.zone.from_local_datetime(&shown(by)) else {
            return shown(by);
        };
        // It went back between the two: by halves, down to a second.
        let (mut early, mut late) = (first.to_utc(), by);
        let before = first.offset().fix();
        while late - early > TimeDelta::seconds(1) {
            let middle = early + TimeDelta::seconds((late - early).num_seconds() / 2);
            match self.zone.offset_from_utc_datetime(&middle.naive_utc()).fix() == before {
                true => early = middle,
                false => late = middle,
            }
        }
        shown(early)
    }

    /// The moment at which the wall clock shows this.
    fn moment(&self, wall: NaiveDateTime) -> DateTime<Utc> {
        match self.zone.from_local_datetime(&wall) {
            chrono::LocalResult::Single(moment) => moment.to_utc(),
            chrono::LocalResult::Ambiguous(first, _) => first.to_utc(),
            chrono::LocalResult::None => self.end_of_gap(wall),
        }
    }

    /// The first moment after a gap that holds this reading. Gaps begin and end at whole minutes.
    fn end_of_gap(&self, wall: NaiveDateTime) -> DateTime<Utc> {
        let mut reading = wall.with_second(0).and_then(|w| w.with_nanosecond(0)).unwrap_or(wall);
        // The longest gap there was took a whole day (islands that changed sides of the date line).
        for _ in 0..=2 * 24 * 60 {
            reading += TimeDelta::minutes(1);
            if let Some(moment) = self.zone.from_local_datetime(&reading).earliest() {
                return moment.to_utc();
            }
        }
        wall.and_utc()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect("a moment").to_utc()
    }

    fn runs(cron: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let rule = Rule::parse(cron, zone).expect("a rule");
        let mut after = at(from);
        (0..n)
            .map(|_| {
                after = rule.next(after).expect("a next one");
                after.format("%m-%dT%H:%M").to_string()
            })
            .collect()
    }

    #[test]
    fn a_rule_that_names_no_moment_is_refused_and_not_looked_for() {
        for cron in [
            ", * * * * *",
            ",,, * * * *",
            "1, * * * *",
            "* ,5 * * *",
            "0 0 1,,2 * *",
            "* * * , *",
        ] {
            let problem = Rule::parse(cron, "UTC").expect_err(cron);
            assert!(problem.detail.contains("beside a comma"), "{problem:?}");
        }
        assert!(Rule::parse("L * * * *", "UTC").is_err());
        assert!(Rule::parse("0 0 L * *", "UTC").is_ok());
        let never = Rule::parse("0 0 30 2 *", "UTC").expect("a rule that can be read");
        assert_eq!(never.next(at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn a_skipped_hour_runs_at_its_end_and_a_repeated_one_once() {
        // Berlin: 2026-03-29 02:00 becomes 03:00 (01:00 UTC); 2026-10-25 03:00 becomes 02:00 (01:00 UTC).
        let daily = runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(daily, ["03-28T01:30", "03-29T01:00", "03-30T00:30"]);
        let daily = runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(daily, ["10-25T00:30", "10-26T01:30"]);
        let often = runs("0,20,40 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 4);
        assert_eq!(often, ["03-29T00:40", "03-29T01:00", "03-29T01:20", "03-29T01:40"]);
        // Lord Howe Island moves its clocks by half an hour.
        let half = runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2);
        assert_eq!(half, ["10-03T15:30", "10-04T15:15"]);
    }

    #[test]
    fn five_years_of_all_transitions_are_as_the_wall_clock_says() {
        let (from, until) = (at("2024-01-01T00:00:00Z"), at("2029-01-01T00:00:00Z"));
        for zone in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Gaza",
            "Africa/Casablanca",
            "America/Santiago",
        ] {
            for cron in ["30 2 * * *", "0 0 * * *", "45 1,2,3 * * *"] {
                let rule = Rule::parse(cron, zone).expect("a rule");
                // By going through all minutes of the wall clock, each of which is due at one moment.
                let mut expected = BTreeSet::new();
                let mut wall = from.naive_utc() - TimeDelta::days(2);
                while wall < until.naive_utc() + TimeDelta::days(2) {
                    if rule.cron.is_time_matching(&wall.and_utc()).expect("a time") {
                        expected.insert(rule.moment(wall));
                    }
                    wall += TimeDelta::minutes(15);
                }
                let expected: Vec<_> = expected.into_iter().filter(|m| *m > from && *m <= until).collect();
                let mut found = Vec::new();
                let mut after = from;
                while let Some(next) = rule.next(after).filter(|n| *n <= until) {
                    found.push(next);
                    after = next;
                }
                assert_eq!(found, expected, "{cron} in {zone}: missed or doubled");
            }
        }
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        for (cron, zone, field) in [
            ("61 * * * *", "UTC", "cron"),
            ("hello", "UTC", "cron"),
            ("* * * * *", "Mars/Base", "time_zone"),
        ] {
            let problem = Rule::parse(cron, zone).expect_err("refused");
            assert_eq!(problem.field.as_deref(), Some(field));
            assert!(problem.detail.contains("allowed"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_date_that_never_comes_is_never_due() {
        let rule = Rule::parse("0 0 30 2 *", "UTC").expect("a rule");
        assert_eq!(rule.next(at("2026-01-01T00:00:00Z")), None);
    }
}
