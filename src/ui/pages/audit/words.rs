//! The audit log's names, in words.

use crate::domain::user::Via;

/// Actions and what they did. What is not listed is said by its name.
const ACTIONS: [(&str, &str); 44] = [
    ("job.enqueue", "Started a job"),
    ("job.enqueue_bulk", "Started jobs"),
    ("job.cancel", "Cancelled a job"),
    ("job.abort", "Aborted a job"),
    ("job.retry", "Retried a job"),
    ("job.pause", "Paused a job"),
    ("job.resume", "Resumed a job"),
    ("job.run_now", "Put a job in front"),
    ("job.run_again", "Ran a job again"),
    ("job.delete", "Deleted a job"),
    ("job.bulk_retry", "Retried many jobs"),
    ("job.bulk_cancel", "Cancelled many jobs"),
    ("job.bulk_delete", "Deleted many jobs"),
    ("batch.enqueue", "Started a batch"),
    ("batch.cancel", "Cancelled a batch"),
    ("schedule.create", "Made a schedule"),
    ("schedule.change", "Changed a schedule"),
    ("schedule.delete", "Deleted a schedule"),
    ("schedule.pause", "Paused a schedule"),
    ("schedule.resume", "Resumed a schedule"),
    ("schedule.run_now", "Ran a schedule now"),
    ("queue.pause", "Paused a queue"),
    ("queue.resume", "Resumed a queue"),
    ("session.begin", "Signed in"),
    ("session.end", "Ended a session"),
    ("session.end_all", "Ended all sessions"),
    ("user.first_admin", "Became the first admin"),
    ("user.invite", "Invited a user"),
    ("user.join", "Joined"),
    ("user.tie", "Came by OpenID for the first time"),
    ("user.change", "Changed a user"),
    ("user.disable", "Disabled a user"),
    ("user.enable", "Enabled a user"),
    ("user.reset", "Made a password link"),
    ("user.revoke_link", "Took a link back"),
    ("user.reset_password", "Chose a new password"),
    ("user.change_password", "Changed the password"),
    ("token.create", "Made a token"),
    ("token.revoke", "Revoked a token"),
    ("worker.begin", "Began a worker"),
    ("worker.end", "Ended a worker"),
    ("kind.declare", "Declared a kind"),
    ("kind.forget", "Removed a kind"),
    ("audit.export", "Exported the audit log"),
];

/// What entries can be about.
pub const OBJECTS: [(&str, &str); 11] = [
    ("job", "Jobs"),
    ("jobs", "Many jobs at once"),
    ("batch", "Batches"),
    ("schedule", "Schedules"),
    ("queue", "Queues"),
    ("user", "Users"),
    ("token", "Tokens"),
    ("session", "Sessions"),
    ("worker", "Workers"),
    ("kind", "Kinds"),
    ("audit", "Audit log"),
];

/// "Cancelled a job"; for an action that has no words here, its name: "job: move on".
pub fn action(name: &str) -> String {
    let known = ACTIONS.iter().find(|(action, _)| *action == name);
    known.map_or_else(
        || name.replacen('.', ": ", 1).replace('_', " "),
        |(_, words)| (*words).to_string(),
    )
}

/// How somebody came in.
pub fn via(via: Via) -> &'static str {
    match via {
        Via::Session => "in the browser",
        Via::Token => "by token",
        Via::Proxy => "through the proxy",
        Via::Machine => "on the server itself",
        Via::Anyone => "before signing in",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_without_words_are_said_by_their_name() {
        assert_eq!(action("job.cancel"), "Cancelled a job");
        assert_eq!(action("job.move_on"), "job: move on");
        assert_eq!(action("odd"), "odd");
    }
}
