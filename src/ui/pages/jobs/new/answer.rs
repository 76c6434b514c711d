//! What the server says to an uploaded file.

use serde_json::Value;

use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::JobId;

/// The id in `{"job_id": "…"}`.
pub fn accepted(body: &str) -> Option<JobId> {
    let answer: Value = serde_json::from_str(body).ok()?;
    answer.get("job_id")?.as_str()?.parse().ok()
}

/// Why the server did not take the file.
pub fn refusal(status: u16, body: &str) -> Problem {
    serde_json::from_str(body).unwrap_or_else(|_| match status {
        0 => Problem::new(
            ProblemCode::Network,
            "The connection broke before the server had the whole file. It may be too large.",
        ),
        413 => Problem::new(ProblemCode::TooLarge, "The file is too large."),
        _ => Problem::new(
            ProblemCode::Internal,
            format!("The server answered with status {status}."),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_uploads_are_understood() {
        let id = JobId::from_u128(7);
        assert_eq!(accepted(&format!("{{\"job_id\":\"{id}\"}}")), Some(id));
        assert_eq!(accepted("<html>"), None);
        let problem = Problem::invalid("file", "The file is empty.");
        assert_eq!(refusal(400, &serde_json::to_string(&problem).expect("json")), problem);
        assert_eq!(refusal(0, "").code, ProblemCode::Network);
        assert_eq!(refusal(413, "<html>").code, ProblemCode::TooLarge);
    }
}
