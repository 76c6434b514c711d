//! What Postgres does in its own way: opening, the lock that keeps a second process out, and the statements of the hot path,
//! each one message for a whole set of jobs.

pub(super) mod commit;
pub(super) mod enqueue;
mod open;
pub(super) mod sets;

pub(super) use open::{Guard, open};
pub use open::{create_schema, drop_schema};

use sea_orm::Value;
use sea_orm::sea_query::ArrayType;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

/// For a connection that writes sets: their statements look rows up by the numbers in their arrays, for which no value makes
/// another plan any better, and to plan one anew takes longer than to run it. A plan may be made while a table is empty and kept
/// while it grows to millions, so none may read a whole table where there is an index; and since what can't but read one counts
/// as very costly then, no plan is compiled for its cost.
pub(super) fn for_sets(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ])
}

fn array(ty: ArrayType, items: impl Iterator<Item = Value>) -> Value {
    Value::Array(ty, Some(Box::new(items.collect())))
}

/// `bigint[]`
pub(super) fn ints(items: impl Iterator<Item = i64>) -> Value {
    array(ArrayType::BigInt, items.map(Value::from))
}

/// `text[]`
pub(super) fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    array(ArrayType::String, items.map(Value::from))
}

/// `uuid[]`
fn uuids(items: impl Iterator<Item = Uuid>) -> Value {
    array(ArrayType::Uuid, items.map(Value::from))
}
