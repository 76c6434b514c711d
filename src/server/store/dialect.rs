//! Where SQLite and Postgres differ in words. Statements that people rarely wait for are written once, with the differing parts
//! from here; the hot path has statements of its own for each (`sets.rs`, `postgres/sets.rs`).

/// The database that a store stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// The types of columns that [`Dialect::rows`] gives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ty {
    Int,
    Text,
}

impl Ty {
    fn postgres(self) -> &'static str {
        match self {
            Self::Int => "bigint",
            Self::Text => "text",
        }
    }
}

impl Dialect {
    /// A subquery with the column `value`: the elements of the JSON array at `place`.
    pub(super) fn list(self, place: &str, ty: Ty) -> String {
        match self {
            Self::Sqlite => format!("(SELECT value FROM json_each({place}))"),
            Self::Postgres => format!(
                "(SELECT value::{} AS value FROM json_array_elements_text({place}::json))",
                ty.postgres()
            ),
        }
    }

    /// A subquery with the named columns: the elements of the JSON array of arrays at `place`, in their order.
    pub(super) fn rows(self, place: &str, columns: &[(&str, Ty)]) -> String {
        let mut text = String::from("(SELECT ");
        for (i, (name, ty)) in columns.iter().enumerate() {
            text.push_str(if i > 0 { ", " } else { "" });
            match self {
                Self::Sqlite => text.push_str(&format!("value ->> {i} AS {name}")),
                Self::Postgres => text.push_str(&format!("(value ->> {i})::{} AS {name}", ty.postgres())),
            }
        }
        match self {
            Self::Sqlite => text.push_str(&format!(" FROM json_each({place}))")),
            Self::Postgres => text.push_str(&format!(" FROM jsonb_array_elements({place}::jsonb))")),
        }
        text
    }

    /// The database's clock: milliseconds since 1970. SQLite's is this process's own, so that whoever reads has the same as
    /// whoever writes.
    pub(super) fn now(self) -> String {
        match self {
            Self::Sqlite => super::connect::system_clock().to_string(),
            Self::Postgres => "(extract(epoch FROM clock_timestamp()) * 1000)::bigint".into(),
        }
    }

    /// How far the moments of enqueueing may differ from the order of the numbers, in milliseconds. SQLite has one writer, and its
    /// clock never goes back; on Postgres several processes enqueue at the same time, and one may wait for another between the
    /// moment and the number.
    pub(super) fn disorder_ms(self) -> i64 {
        match self {
            Self::Sqlite => 0,
            Self::Postgres => 10_000,
        }
    }

    /// At the end of a SELECT within a transaction: its rows are this transaction's, and those of others are passed over.
    pub(super) fn take_rows(self) -> &'static str {
        match self {
            // There is one writer, and its transaction has the whole database.
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// At the end of a SELECT within a transaction: its rows stay as they are until the transaction ends.
    pub(super) fn hold_rows(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Behind a table's name: SQLite goes by this index, and by no other. It has no figures of what its tables hold, so of two
    /// indexes it takes the one of which it is given more columns, however many rows that leads past. Postgres has them.
    pub(super) fn by(self, index: &str) -> String {
        match self {
            Self::Sqlite => format!(" INDEXED BY {index}"),
            Self::Postgres => String::new(),
        }
    }

    /// A text in the order of its bytes, as the keys of our tables have it.
    pub(super) fn bytewise(self, column: &str) -> String {
        match self {
            Self::Sqlite => column.into(),
            Self::Postgres => format!("{column} COLLATE \"C\""),
        }
    }

    /// The place of one text within another, from 1; 0 where it is not in it.
    pub(super) fn position(self) -> &'static str {
        match self {
            Self::Sqlite => "instr",
            Self::Postgres => "strpos",
        }
    }

    /// A UUID of its hexadecimal digits.
    pub(super) fn uuid(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("unhex({column})"),
            Self::Postgres => format!("{column}::uuid"),
        }
    }

    /// A UUID's hexadecimal digits, in lower case and without dashes.
    pub(super) fn hex(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("lower(hex({column}))"),
            Self::Postgres => format!("replace({column}::text, '-', '')"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_in_both_words() {
        let columns = [("n", Ty::Int), ("t", Ty::Text)];
        assert_eq!(
            Dialect::Sqlite.rows("$2", &columns),
            "(SELECT value ->> 0 AS n, value ->> 1 AS t FROM json_each($2))"
        );
        assert_eq!(
            Dialect::Postgres.rows("$2", &columns),
            "(SELECT (value ->> 0)::bigint AS n, (value ->> 1)::text AS t FROM jsonb_array_elements($2::jsonb))"
        );
    }
}
