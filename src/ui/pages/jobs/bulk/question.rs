//! What is asked before something is done to many jobs.

use std::sync::Arc;

use crate::domain::bulk::BulkAction;
use crate::domain::page::{count_label, grouped};
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::text;

/// So many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub n: u64,
    /// There may be more.
    pub capped: bool,
}

impl Count {
    pub fn exactly(n: usize) -> Self {
        Self {
            n: n as u64,
            capped: false,
        }
    }

    /// "3 jobs".
    pub fn jobs(self) -> String {
        count_label(self.n, self.capped, text::JOB.0, text::JOB.1)
    }
}

/// What is asked before `action` is done to those of the `selected` jobs that it can be done to, which are `fit` many.
pub fn question(action: BulkAction, fit: Count, selected: Count) -> Ask {
    let jobs = fit.jobs();
    let one = fit.n == 1 && !fit.capped;
    let (what, keep, tone) = match action {
        BulkAction::Retry if one => ("It goes back to its queue with fresh attempts.", "Not now", "blue"),
        BulkAction::Retry => ("They go back to their queues with fresh attempts.", "Not now", "blue"),
        BulkAction::Cancel => (
            "A job that runs completes its current operation first and then stops. One that has not started is cancelled at once.",
            "Keep jobs",
            "amber",
        ),
        BulkAction::Delete => (
            "Records, logs and files are removed for good. This cannot be undone.",
            "Keep jobs",
            "danger",
        ),
    };
    let mut words = what.to_string();
    if fit != selected {
        words.push_str(&left(action, fit, selected));
    }
    let label = action.label();
    Ask {
        title: format!("{label} {jobs}?"),
        text: words,
        warning: None,
        confirm: format!("{label} {jobs}"),
        keep: keep.into(),
        tone,
        more: None,
        then: Arc::new(|| Answered::Yes),
    }
}

/// Which of the selected jobs stay as they are.
fn left(action: BulkAction, fit: Count, selected: Count) -> String {
    let only = match action {
        BulkAction::Retry => "failed and dead jobs can be retried",
        BulkAction::Cancel => "jobs that have not ended can be cancelled",
        BulkAction::Delete => "jobs that neither run nor are about to be retried can be deleted",
    };
    match selected.capped || fit.capped {
        true => format!(
            " Of the {} selected only {only}; the others stay as they are.",
            selected.jobs()
        ),
        false => {
            let rest = selected.n.saturating_sub(fit.n);
            let stay = if rest == 1 {
                "stays as it is"
            } else {
                "stay as they are"
            };
            format!(
                " Only {only}: {} of the {} selected {stay}.",
                grouped(rest),
                grouped(selected.n)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_gives_the_count_and_says_what_is_left_out() {
        let ask = question(BulkAction::Retry, Count::exactly(3), Count::exactly(5));
        assert_eq!(ask.title, "Retry 3 jobs?");
        assert_eq!(ask.confirm, "Retry 3 jobs");
        assert!(
            ask.text.ends_with("2 of the 5 selected stay as they are."),
            "{}",
            ask.text
        );
        let ask = question(BulkAction::Retry, Count::exactly(1), Count::exactly(2));
        assert!(ask.text.starts_with("It goes") && ask.text.ends_with("1 of the 2 selected stays as it is."));
        let ask = question(BulkAction::Delete, Count::exactly(1), Count::exactly(1));
        assert_eq!(ask.title, "Delete 1 job?");
        assert!(ask.text.ends_with("cannot be undone."));
        let many = Count {
            n: 10_000,
            capped: true,
        };
        let ask = question(BulkAction::Cancel, Count::exactly(7), many);
        assert!(ask.text.contains("current operation first") && ask.text.contains("10,000+ jobs"));
    }
}
