//! A statement under construction, and rows read by name. Placeholders are `$1`, `$2`, …, which both dialects take.

use sea_orm::{DbBackend, QueryResult, Statement, TryGetable, Value};

use super::error::StoreError;
use crate::domain::time::{Timestamp, from_millis};

/// SQL text with its values.
#[derive(Clone, Debug, Default)]
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
        }
    }

    /// Text that already numbers its placeholders `$1`…, with their values.
    pub fn with(text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(DbBackend::Sqlite, text, values)
    }

    /// Appends text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a placeholder for `value`.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    pub fn build(self) -> Statement {
        Statement::from_sql_and_values(DbBackend::Sqlite, self.text, self.values)
    }
}

/// Reading a column by its name.
pub trait RowExt {
    fn get<T: TryGetable>(&self, column: &str) -> Result<T, StoreError>;

    /// A whole number, however wide the column.
    fn int(&self, column: &str) -> Result<i64, StoreError>;

    fn u64(&self, column: &str) -> Result<u64, StoreError> {
        let v = self.int(column)?;
        Ok(u64::try_from(v).unwrap_or(0))
    }

    fn u32(&self, column: &str) -> Result<u32, StoreError> {
        let v = self.int(column)?;
        Ok(u32::try_from(v).unwrap_or(0))
    }

    fn opt_u64(&self, column: &str) -> Result<Option<u64>, StoreError> {
        let v: Option<i64> = self.get(column)?;
        Ok(v.and_then(|v| u64::try_from(v).ok()))
    }

    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Ok(from_millis(self.get(column)?))
    }

    fn opt_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let v: Option<i64> = self.get(column)?;
        Ok(v.map(from_millis))
    }

    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }
}

impl RowExt for QueryResult {
    fn get<T: TryGetable>(&self, column: &str) -> Result<T, StoreError> {
        self.try_get("", column).map_err(StoreError::from)
    }

    fn int(&self, column: &str) -> Result<i64, StoreError> {
        if let Some(row) = self.try_as_pg_row() {
            use sqlx::{Column, Row, TypeInfo};
            let narrow = row.column(column).type_info().name() == "INT4";
            if narrow {
                return Ok(i64::from(self.get::<i32>(column)?));
            }
        }
        self.get(column)
    }
}

/// `value` for a SQL integer: saturates far beyond what any counter here reaches.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
