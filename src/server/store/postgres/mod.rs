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

use super::session::PATIENCE;

/// For a connection that writes sets. Their statements look rows up by the numbers in their arrays, for which no value makes
/// another plan any better, and to plan one anew takes longer than to run it: so a plan is kept. It may have been made while a table
/// was empty, so none may read a whole table where there is an index; and since what can't but read one counts as very costly then,
/// no plan is compiled for its cost. A set is a transaction by itself, which would go on though nobody waits for it any more: the
/// database gives it up before we do.
pub(super) fn for_sets(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("plan_cache_mode", "force_generic_plan".to_string()),
        ("enable_seqscan", "off".into()),
        ("enable_mergejoin", "off".into()),
        ("jit", "off".into()),
        ("statement_timeout", format!("{}ms", (PATIENCE * 9 / 10).as_millis())),
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
