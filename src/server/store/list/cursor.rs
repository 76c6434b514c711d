//! Where a page of a list ended.

use sea_orm::Value;
use serde::{Deserialize, Serialize};

use super::super::jobs::JobRow;
use crate::domain::error::Problem;
use crate::domain::filter::{JobFilter, Order, Sort};
use crate::domain::status::Status;
use crate::domain::time::Timestamp;

/// Where a page ended: the sort column's value and the job's number. On the wire JSON in lower-case hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    pub(super) sort: Sort,
    pub(super) order: Order,
    pub(super) value: Key,
    pub(super) seq: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Key {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
}

impl From<Key> for Value {
    fn from(key: Key) -> Self {
        match key {
            Key::Null => Value::BigInt(None),
            Key::Int(v) => v.into(),
            Key::Real(v) => v.into(),
            Key::Text(v) => v.into(),
        }
    }
}

impl Cursor {
    /// The position of `row` in a list sorted by `filter`.
    pub fn of(filter: &JobFilter, row: &JobRow) -> Self {
        let time = |t: Option<Timestamp>| t.map_or(Key::Null, |t| Key::Int(t.timestamp_millis()));
        let job = &row.job;
        Self {
            sort: filter.sort,
            order: filter.order,
            value: match filter.sort {
                Sort::CreatedAt => time(Some(job.created_at)),
                Sort::StartedAt => time(job.started_at),
                Sort::CompletedAt => time(job.completed_at),
                Sort::Progress if job.status == Status::Running => job.progress.map_or(Key::Null, Key::Real),
                Sort::Progress => Key::Null,
                Sort::JobType => Key::Text(job.kind.clone()),
                Sort::Status => Key::Text(job.status.as_str().into()),
            },
            seq: row.seq,
        }
    }

    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        json.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Reads what [`Cursor::encode`] wrote for the same order; anything else is the caller's mistake.
    pub fn decode(text: &str, filter: &JobFilter) -> Result<Self, Problem> {
        let bad = || Problem::invalid("cursor", "cursor is not one that this list gave out; start without one");
        if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 2_000 {
            return Err(bad());
        }
        let bytes = (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).map_err(|_| bad()))
            .collect::<Result<Vec<u8>, _>>()?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let fits = match (cursor.sort, &cursor.value) {
            (Sort::CreatedAt | Sort::StartedAt | Sort::CompletedAt, value) => matches!(value, Key::Null | Key::Int(_)),
            (Sort::Progress, value) => !matches!(value, Key::Text(_)),
            (Sort::JobType | Sort::Status, Key::Text(text)) => !text.contains('\0'),
            (Sort::JobType | Sort::Status, _) => false,
        };
        if !fits {
            return Err(bad());
        }
        if cursor.sort != filter.sort || cursor.order != filter.order {
            return Err(Problem::invalid(
                "cursor",
                "cursor belongs to a list in another order; start without one",
            ));
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_and_a_foreign_one_is_refused() {
        let filter = JobFilter::default();
        let cursor = Cursor {
            sort: Sort::CreatedAt,
            order: Order::Desc,
            value: Key::Int(5),
            seq: 7,
        };
        assert_eq!(Cursor::decode(&cursor.encode(), &filter), Ok(cursor.clone()));
        let other = JobFilter {
            order: Order::Asc,
            ..filter.clone()
        };
        for (text, filter) in [
            ("zz", &filter),
            ("7b7d", &filter),
            ("é1", &filter),
            (&*cursor.encode(), &other),
        ] {
            assert_eq!(
                Cursor::decode(text, filter).expect_err("refused").field.as_deref(),
                Some("cursor")
            );
        }
    }
    #[test]
    fn fuzz_cursors() {
        let of = |(sort, value)| Cursor {
            sort,
            order: Order::Desc,
            value,
            seq: 7,
        };
        let ends = [
            (Sort::CreatedAt, Key::Int(-5)),
            (Sort::StartedAt, Key::Null),
            (Sort::Progress, Key::Real(0.25)),
            (Sort::JobType, Key::Text("an ü".into())),
        ];
        let seeds = ends.map(|end| of(end).encode());
        for case in crate::mutate::Fuzz::new("cursors", &seeds, &["7b", "7d", "2c", "22", "6e756c6c"]) {
            for sort in Sort::ALL {
                let filter = JobFilter {
                    sort,
                    ..JobFilter::default()
                };
                let Ok(cursor) = Cursor::decode(&String::from_utf8_lossy(&case), &filter) else {
                    continue;
                };
                // A number with a fraction may lose its last digit on the way.
                if !matches!(cursor.value, Key::Real(_)) {
                    assert_eq!(Cursor::decode(&cursor.encode(), &filter), Ok(cursor));
                }
            }
        }
    }
}
