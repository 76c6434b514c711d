use super::*;
use crate::domain::live::LiveEvent;
use crate::domain::status::Status;
use crate::domain::time::from_millis;

fn job(n: u128, status: Status) -> Job {
    let at = from_millis(1_700_000_000_000 + n as i64 * 1_000);
    Job {
        id: uuid::Uuid::from_u128(n),
        kind: "export".into(),
        queue: "default".into(),
        priority: Default::default(),
        status,
        owner: "admin".into(),
        message: String::new(),
        progress: None,
        done: None,
        total: None,
        attempt: 0,
        max_attempts: 5,
        crashes: 0,
        created_at: at,
        run_at: at,
        started_at: None,
        completed_at: None,
        worker: None,
        concurrency_key: None,
        fingerprint: None,
        batch: None,
        front: false,
        cancel_requested: false,
        pause_requested: false,
        error_code: None,
        error: None,
        rev: 1,
    }
}

fn page(numbers: &[u128], next_cursor: Option<&str>) -> Page<Job> {
    Page {
        items: numbers.iter().map(|n| job(*n, Status::Pending)).collect(),
        total: numbers.len() as u64,
        total_capped: false,
        unsearched: 0,
        next_cursor: next_cursor.map(Into::into),
    }
}

/// A list with jobs 9, 7 and 5, newest first.
fn list(filter: JobFilter, cursor: Option<&str>) -> ListState {
    let list = ListState::new(filter);
    list.begin(Ok(page(&[9, 7, 5], cursor)));
    list
}

fn shown(list: &ListState) -> Vec<u128> {
    list.rows
        .with_untracked(|rows| rows.iter().map(|r| r.id.as_u128()).collect())
}

fn within<R>(f: impl FnOnce() -> R) -> R {
    Owner::new().with(f)
}

#[test]
fn new_jobs_come_in_where_they_belong() {
    within(|| {
        let list = list(JobFilter::default(), None);
        list.hear(&LiveEvent::Jobs(vec![
            job(12, Status::Pending),
            job(6, Status::Pending),
            job(1, Status::Pending),
        ]));
        assert_eq!(shown(&list), [12, 9, 7, 6, 5, 1]);
        assert_eq!(untrack(|| list.count(&JobFilter::default(), None)), (6, false));
    });
}

#[test]
fn jobs_beyond_what_is_loaded_wait_for_their_part() {
    within(|| {
        let list = list(JobFilter::default(), Some("more"));
        list.hear(&LiveEvent::Jobs(vec![job(1, Status::Pending)]));
        assert_eq!(shown(&list), [9, 7, 5]);
        list.append(page(&[5, 3, 1], None));
        assert_eq!(shown(&list), [9, 7, 5, 3, 1]);
        assert!(!untrack(|| list.has_more()));
    });
}

#[test]
fn jobs_that_stop_matching_leave_and_removed_ones_vanish() {
    within(|| {
        let filter = JobFilter {
            status: vec![Status::Pending],
            ..JobFilter::default()
        };
        let list = list(filter, None);
        let mut started = job(7, Status::Running);
        started.rev = 2;
        list.hear(&LiveEvent::Jobs(vec![started, job(3, Status::Dead)]));
        assert_eq!(shown(&list), [9, 5]);
        list.hear(&LiveEvent::Removed(vec![uuid::Uuid::from_u128(5)]));
        assert_eq!(shown(&list), [9]);
    });
}

#[test]
fn an_older_copy_changes_nothing() {
    within(|| {
        let filter = JobFilter {
            status: vec![Status::Pending],
            ..JobFilter::default()
        };
        let list = list(filter, None);
        let mut old = job(7, Status::Running);
        old.rev = 0;
        list.hear(&LiveEvent::Jobs(vec![old]));
        assert_eq!(shown(&list), [9, 7, 5]);
    });
}

#[test]
fn fetching_again_keeps_the_rows_and_takes_the_newer_copies() {
    within(|| {
        let list = list(JobFilter::default(), None);
        let before = list.rows.with_untracked(|rows| rows[1].job.clone());
        let mut live = job(7, Status::Running);
        live.rev = 3;
        list.hear(&LiveEvent::Jobs(vec![live]));
        list.replace(page(&[11, 9, 7], None));
        assert_eq!(shown(&list), [11, 9, 7]);
        // The answer's copy is older than what the stream has brought.
        assert_eq!(before.with_untracked(|j| j.status), Status::Running);
        assert_eq!(
            list.rows.with_untracked(|rows| rows[2].job.with_untracked(|j| j.rev)),
            3
        );
    });
}

#[test]
fn a_job_that_an_answer_is_too_old_to_have_keeps_its_row() {
    within(|| {
        let list = list(JobFilter::default(), None);
        list.loading.set(true);
        list.hear(&LiveEvent::Jobs(vec![job(12, Status::Pending)]));
        let row = |list: &ListState| list.rows.with_untracked(|rows| rows[0].job.clone());
        let shown_by = row(&list);
        list.replace(page(&[9, 7, 5], None));
        list.loading.set(false);
        assert_eq!(shown(&list), [12, 9, 7, 5]);
        let mut done = job(12, Status::Completed);
        done.rev = 2;
        list.hear(&LiveEvent::Jobs(vec![done]));
        assert_eq!(shown_by.with_untracked(|j| j.status), Status::Completed);
    });
}

#[test]
fn rows_in_view_keep_their_place() {
    within(|| {
        let list = list(JobFilter::default(), None);
        list.window.top.set(ROW + 8.0);
        list.hear(&LiveEvent::Jobs(vec![job(20, Status::Pending)]));
        assert_eq!(list.window.top.get_untracked(), 2.0 * ROW + 8.0);
        list.hear(&LiveEvent::Removed(vec![
            uuid::Uuid::from_u128(20),
            uuid::Uuid::from_u128(9),
        ]));
        assert_eq!(list.window.top.get_untracked(), 8.0);
        list.window.top.set(0.0);
        list.hear(&LiveEvent::Jobs(vec![job(21, Status::Pending)]));
        assert_eq!(
            list.window.top.get_untracked(),
            0.0,
            "at the top, new jobs are seen at once"
        );
    });
}

#[test]
fn counts_answer_where_they_can() {
    let mut counts = Counts::default();
    counts.by_status.insert("pending".into(), 3);
    counts.by_status.insert("dead".into(), 2);
    counts.by_type.insert("export".into(), [("dead".to_string(), 2)].into());
    let of = |filter: JobFilter| counted(&filter, &counts);
    assert_eq!(of(JobFilter::default()), Some(5));
    assert_eq!(
        of(JobFilter {
            status: vec![Status::Dead],
            ..Default::default()
        }),
        Some(2)
    );
    assert_eq!(
        of(JobFilter {
            kind: Some("export".into()),
            ..Default::default()
        }),
        Some(2)
    );
    assert_eq!(
        of(JobFilter {
            kind: Some("crawl".into()),
            ..Default::default()
        }),
        Some(0)
    );
    assert_eq!(
        of(JobFilter {
            q: Some("x".into()),
            ..Default::default()
        }),
        None
    );
}
