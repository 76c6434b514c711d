//! How SQLite goes about statements that run all the time, whatever the tables hold.

use sea_orm::Statement;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::connect::MIGRATIONS;
use super::dialect::Dialect;
use super::external::heads::{self, Narrow};
use super::retention::{Rule, expired};
use super::session::Session;
use super::sql::RowExt;
use super::{counts, due};
use crate::domain::job::Lane;
use crate::domain::status::Status;

/// The steps of a statement on an empty database.
pub(super) async fn plan(mut stmt: Statement) -> Vec<String> {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("a database");
    MIGRATIONS.run(&mut connection).await.expect("its tables");
    let session = Session::sqlite(connection);
    stmt.sql = format!("EXPLAIN QUERY PLAN {}", stmt.sql);
    let rows = session.all(stmt).await.expect("a plan");
    let steps = rows.iter().map(|row| row.get("detail").expect("a step"));
    steps.collect()
}

/// Goes straight to its rows by this index, and finds them in their order.
async fn straight(stmt: Statement, index: &str) {
    let text = stmt.sql.clone();
    let plan = plan(stmt).await;
    assert!(plan.iter().any(|step| step.contains(index)), "{text}: {plan:?}");
    assert!(
        !plan
            .iter()
            .any(|step| step.contains("TEMP B-TREE") || step.contains("SCAN jobs")),
        "{text}: {plan:?}"
    );
}

#[tokio::test]
async fn what_is_due_is_found_by_its_time() {
    straight(due::next(Dialect::Sqlite), "jobs_due").await;
    straight(due::due(Dialect::Sqlite, 1), "jobs_due (run_at<?)").await;
}

#[tokio::test]
async fn what_is_kept_no_longer_is_found_without_passing_what_is() {
    let by = "jobs_ended (status=? AND completed_at<?)";
    for kind in [None, Some("noop".to_string())] {
        let rule = Rule {
            status: Status::Completed,
            kind,
            after_ms: Some(1),
        };
        straight(expired(Dialect::Sqlite, &rule, &[], 1, 250), by).await;
        straight(expired(Dialect::Sqlite, &rule, &["echo".into()], 1, 250), by).await;
    }
}

#[tokio::test]
async fn jobs_for_workers_outside_are_found_by_kind_lane_and_owner() {
    let narrow = Narrow {
        member_max: 3,
        suspects: false,
    };
    let kind = "images.resize";
    let by = "jobs_external (kind=? AND front=? AND lane=? AND owner";
    straight(heads::owners(Dialect::Sqlite, kind, Lane::Normal, "ada"), by).await;
    let owners = ["ada".to_string(), "bob".to_string()];
    let lines = heads::lines(Dialect::Sqlite, kind, Lane::Normal, &owners, 5, narrow);
    straight(lines, by).await;
}

#[tokio::test]
async fn recent_failures_are_counted_without_looking_at_earlier_ones() {
    straight(
        counts::facts(Dialect::Sqlite, 1),
        "jobs_ended (status=? AND completed_at>?)",
    )
    .await;
}
