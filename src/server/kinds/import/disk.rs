//! Files that are imported where they lie: only those within the folder that the settings name, however they are told.

use std::path::{Component, Path, PathBuf};

use super::{Source, printable};
use crate::domain::error::{ErrorCode, JobError, Problem, truncate};

/// Bytes of a path.
const PATH_MAX: usize = 1_000;

/// What is wrong with a path before anybody has looked whether it leads anywhere.
pub fn check(dir: Option<&Path>, path: &str) -> Result<(), Problem> {
    if dir.is_none() {
        let detail = "path can't be used: no folder is open to imports here; set IMPORT_DIR, or upload the file";
        return Err(Problem::invalid("path", detail));
    }
    let mut parts = Path::new(path).components();
    let inside = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !(1..=PATH_MAX).contains(&path.len()) || path.chars().any(char::is_control) || !inside {
        let mut shown = printable(path);
        truncate(&mut shown, 80);
        return Err(Problem::invalid(
            "path",
            format!(
                "path \"{shown}\" can't be used; allowed: 1 to {PATH_MAX} bytes, told from IMPORT_DIR, without \"..\""
            ),
        ));
    }
    Ok(())
}

/// The file, with whatever its path goes through resolved: a link that leads out of the folder leads nowhere.
pub async fn open(dir: Option<&Path>, path: &str) -> Result<Source, JobError> {
    // The worker's settings may be others than those of whoever took the job in.
    check(dir, path).map_err(|problem| JobError::new(ErrorCode::InvalidArgs, problem.detail))?;
    let name = printable(path);
    let missing = || {
        let text = format!("{name} is not a file in the folder for imports of this worker");
        JobError::new(ErrorCode::NotFound, text)
    };
    let unread = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => JobError::caused(ErrorCode::IoError, format!("{name} can't be read: {e}"), &e),
    };
    let root = tokio::fs::canonicalize(dir.unwrap_or(Path::new("")))
        .await
        .map_err(unread)?;
    let found: PathBuf = tokio::fs::canonicalize(root.join(path)).await.map_err(unread)?;
    let facts = tokio::fs::metadata(&found).await.map_err(unread)?;
    if !found.starts_with(&root) || !facts.is_file() {
        return Err(missing());
    }
    let changed = facts.modified().ok();
    let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(Source {
        path: found,
        size: facts.len(),
        changed_ms: since.map_or(0, |t| i64::try_from(t.as_millis()).unwrap_or(i64::MAX)),
        name: name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_folder() {
        let dir = Some(Path::new("/imports"));
        for good in ["a.csv", "2026/a b.csv", "./a.csv", "ü.json"] {
            assert!(check(dir, good).is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../a.csv", "a/../../b", "a\nb", &"x".repeat(1_001)] {
            let problem = check(dir, bad).expect_err(bad);
            assert_eq!(problem.field.as_deref(), Some("path"));
        }
        assert!(check(None, "a.csv").expect_err("closed").detail.contains("IMPORT_DIR"));
    }

    #[tokio::test]
    async fn links_that_lead_out_lead_nowhere() {
        let dir = tempfile::TempDir::new().expect("folder");
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).expect("folder");
        std::fs::write(dir.path().join("secret.csv"), "x").expect("file");
        std::fs::write(inside.join("good.csv"), "abc").expect("file");
        std::os::unix::fs::symlink("../secret.csv", inside.join("out.csv")).expect("link");
        std::os::unix::fs::symlink("good.csv", inside.join("in.csv")).expect("link");
        let code = async |path| open(Some(&inside), path).await.map(|s| s.size).map_err(|e| e.code);
        assert_eq!(code("good.csv").await, Ok(3));
        assert_eq!(code("in.csv").await, Ok(3));
        for bad in ["out.csv", "missing.csv", "."] {
            assert_eq!(code(bad).await, Err(ErrorCode::NotFound), "{bad}");
        }
        assert_eq!(code("../secret.csv").await, Err(ErrorCode::InvalidArgs));
    }
}
