//! Words that people read in more than one place, kept together for translation.

/// The product's name.
pub const PRODUCT: &str = "Windlass";
pub const SKIP: &str = "Skip to content";

pub const JOBS: &str = "Jobs";
pub const JOBS_DESCRIPTION: &str = "Monitor background jobs and their progress";
pub const USERS: &str = "Users";
pub const USERS_DESCRIPTION: &str = "Who may sign in, and what they may do";
pub const AUDIT_LOG: &str = "Audit log";
pub const AUDIT_LOG_DESCRIPTION: &str = "What people and tokens did, and to which jobs";
pub const SETTINGS: &str = "Settings";
pub const SETTINGS_DESCRIPTION: &str = "What this server was started with, and where each value comes from";
pub const SETTINGS_CHANGE: &str = "They are read at the start: Leptos.toml first, then .env, then the environment, which wins. Secrets \
    come from the last two and are shown nowhere.";
pub const ACCOUNT: &str = "Your account";
pub const ACCOUNT_DESCRIPTION: &str = "Your password, where you are signed in, and your API tokens";
pub const SIGN_IN: &str = "Sign in";
pub const SIGN_OUT: &str = "Sign out";
pub const EMAIL: &str = "E-mail";
pub const PASSWORD: &str = "Password";
pub const CLEAR_ALL: &str = "Clear all";
pub const TRY_AGAIN: &str = "Try again";
pub const ALL_TIME: &str = "All time";
pub const ALL_KINDS: &str = "All kinds";

/// Singular and plural for [`crate::domain::page::count_label`].
pub const JOB: (&str, &str) = ("job", "jobs");

/// What the filter calls a status: the words that people know from other systems.
pub fn status_choice(status: crate::domain::status::Status) -> &'static str {
    match status {
        crate::domain::status::Status::Running => "Processing",
        other => other.label(),
    }
}

/// The kinds that somebody or something is limited to; none: all of them.
pub fn kinds(names: &[String]) -> String {
    match names {
        [] => ALL_KINDS.into(),
        names => names
            .iter()
            .map(|name| crate::domain::kind::label(name))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
