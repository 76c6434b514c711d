//! The audit log's heads, kept in a file outside the database: whoever cuts off the log's end, or writes it anew, has to
//! change that file as well. Copy it elsewhere, and that does not help either.
//!
//! A line is `NUMBER:HASH TIME`. Lines are only added; their numbers grow.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::task::AbortHandle;

use super::Service;
use crate::domain::audit::AuditHead;
use crate::server::store::Store;

/// The file's name in the data directory.
pub const FILE: &str = "audit-heads";
/// How often a head is added at the most.
const EVERY: Duration = Duration::from_secs(60);
/// Bytes at the end of the file that hold its last line.
const TAIL: u64 = 4_096;

/// What is wrong with a file of heads.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    #[error("{}: {source}", .file.display())]
    File {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}, line {line}: {why}", .file.display())]
    Line { file: PathBuf, line: usize, why: String },
}

/// What came of adding a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    Written,
    /// It is the last one there already, or there is none yet.
    Known,
    /// A later one is there, or another one of the same number: the log was cut off or changed.
    Against(AuditHead),
}

impl std::fmt::Display for Added {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Written | Self::Known => f.write_str("the audit log goes on from its kept heads"),
            Self::Against(kept) => write!(
                f,
                "the audit log was cut off or changed: its entry {} with the hash {} is kept as a head, and is not there any more; \
                 `windlass audit verify` says more",
                kept.seq, kept.hash
            ),
        }
    }
}

/// Reads a head: `NUMBER:HASH`, or a whole line. The error says what is allowed.
pub fn parse(text: &str) -> Result<AuditHead, String> {
    let allowed =
        || "allowed is NUMBER:HASH (64 hexadecimal digits), and a time like 2026-03-01T10:00:00Z behind it".to_string();
    let (head, time) = match text.trim().split_once(' ') {
        Some((head, time)) => (head, Some(time.trim())),
        None => (text.trim(), None),
    };
    let (seq, hash) = head.split_once(':').ok_or_else(allowed)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let is_time = time.is_none_or(|time| DateTime::parse_from_rfc3339(time).is_ok());
    match seq.parse() {
        Ok(seq) if is_hash && is_time => Ok(AuditHead {
            seq,
            hash: hash.to_lowercase(),
        }),
        _ => Err(allowed()),
    }
}

/// All heads in a file. A last line without its end, which a power cut leaves, is passed over when it can't be read.
pub fn read(file: &Path) -> Result<Vec<AuditHead>, HeadsError> {
    let text = std::fs::read_to_string(file).map_err(|source| broken(file, source))?;
    let whole = text.ends_with('\n');
    let lines = text.lines().count();
    let mut heads: Vec<AuditHead> = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line) {
            Ok(head) => heads.push(head),
            Err(_) if i + 1 == lines && !whole => {}
            Err(why) => return Err(wrong(file, i, format!("\"{}\" is no head; {why}", shortened(line)))),
        }
    }
    Ok(heads)
}

/// The heads of the file that is kept beside the database; none: there is no such file. One whose numbers do not grow was
/// changed by somebody else.
pub fn read_kept(file: &Path) -> Result<Option<Vec<AuditHead>>, HeadsError> {
    let heads = match read(file) {
        Err(HeadsError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let falls = |(_, pair): &(usize, &[AuditHead])| pair[1].seq <= pair[0].seq;
    if let Some((i, pair)) = heads.windows(2).enumerate().find(falls) {
        let why = format!(
            "entry {} stands behind entry {}: lines are only added, so this file was changed",
            pair[1].seq, pair[0].seq
        );
        return Err(wrong(file, i + 1, why));
    }
    Ok(Some(heads))
}

/// Adds a head to the file, unless it is there or the file says that the log is not what it was.
pub fn add(file: &Path, head: &AuditHead, now: DateTime<Utc>) -> Result<Added, HeadsError> {
    if head.seq == 0 {
        return Ok(Added::Known);
    }
    let added = || -> std::io::Result<Added> {
        let mut out = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)?;
        // Processes that share a data directory take turns, so that numbers grow.
        out.lock()?;
        // A line that can't be read is for `verify` to tell; it keeps no head from being added.
        if let Some(last) = last_line(&mut out)?.and_then(|line| parse(&line).ok()) {
            if last == *head {
                return Ok(Added::Known);
            }
            if last.seq >= head.seq {
                return Ok(Added::Against(last));
            }
        }
        let time = now.to_rfc3339_opts(SecondsFormat::Secs, true);
        out.write_all(format!("{}:{} {time}\n", head.seq, head.hash).as_bytes())?;
        out.sync_data()?;
        Ok(Added::Written)
    };
    added().map_err(|source| broken(file, source))
}

/// The last whole line. What stands behind it is half a line, left by a power cut, and is taken away.
fn last_line(file: &mut File) -> std::io::Result<Option<String>> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
        // All of a short file is that half line. A long one is nothing of ours: `verify` tells.
        if from == 0 && !bytes.is_empty() {
            file.set_len(0)?;
        }
        return Ok(None);
    };
    let whole = from + end as u64 + 1;
    if whole < length {
        file.set_len(whole)?;
    }
    let begin = bytes[..end].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    Ok(Some(String::from_utf8_lossy(&bytes[begin..end]).into_owned()))
}

fn broken(file: &Path, source: std::io::Error) -> HeadsError {
    HeadsError::File {
        file: file.to_path_buf(),
        source,
    }
}

/// `i`: the line's place, from 0.
fn wrong(file: &Path, i: usize, why: String) -> HeadsError {
    HeadsError::Line {
        file: file.to_path_buf(),
        line: i + 1,
        why,
    }
}

fn shortened(line: &str) -> String {
    let mut text = line.to_string();
    crate::domain::error::truncate(&mut text, 80);
    text
}

/// Adds the log's head to a file every now and then, while this process serves.
#[derive(Default)]
pub(super) struct Heads(Mutex<Option<Keeper>>);

struct Keeper {
    file: PathBuf,
    task: AbortHandle,
}

impl Heads {
    fn replace(&self, keeper: Option<Keeper>) -> Option<Keeper> {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), keeper)
    }

    /// Adds the last head, and no more after it.
    pub(super) async fn close(&self, store: &Store) {
        if let Some(keeper) = self.replace(None) {
            keeper.task.abort();
            keep(store, keeper.file).await;
        }
    }
}

impl Service {
    /// Adds the audit log's head to `file` now, each minute in which the log grew, and when the service is closed.
    pub fn keep_heads(&self, file: PathBuf) {
        let (store, kept) = (self.store.clone(), file.clone());
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(EVERY);
            loop {
                tick.tick().await;
                keep(&store, kept.clone()).await;
            }
        });
        let keeper = Keeper {
            file,
            task: task.abort_handle(),
        };
        if let Some(before) = self.heads.replace(Some(keeper)) {
            before.task.abort();
        }
    }
}

/// Adds the present head. What goes wrong is logged: the file is worth no outage.
async fn keep(store: &Store, file: PathBuf) {
    let head = match store.audit_head().await {
        Ok(head) => head,
        Err(error) => return tracing::warn!(%error, "the audit log's head could not be read"),
    };
    match tokio::task::spawn_blocking(move || add(&file, &head, Utc::now())).await {
        Ok(Ok(Added::Written | Added::Known)) => {}
        Ok(Ok(against)) => tracing::error!("{against}"),
        Ok(Err(error)) => tracing::warn!(%error, "the audit log's head could not be kept"),
        Err(error) => tracing::warn!(%error, "the audit log's head could not be kept"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64, digit: char) -> AuditHead {
        AuditHead {
            seq,
            hash: digit.to_string().repeat(64),
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-03-01T10:00:00.5Z".parse().expect("time")
    }

    #[test]
    fn heads_are_added_once_and_never_back() {
        let dir = tempfile::TempDir::new().expect("folder");
        let file = dir.path().join(FILE);
        let add = |head: &AuditHead| add(&file, head, now()).expect("file");
        assert_eq!(read_kept(&file).expect("none"), None);
        assert_eq!(add(&AuditHead::before_all()), Added::Known);
        assert_eq!(add(&head(3, 'a')), Added::Written);
        assert_eq!(add(&head(3, 'a')), Added::Known);
        assert_eq!(add(&head(3, 'b')), Added::Against(head(3, 'a')));
        assert_eq!(add(&head(9, 'c')), Added::Written);
        assert_eq!(add(&head(8, 'd')), Added::Against(head(9, 'c')));
        let text = std::fs::read_to_string(&file).expect("text");
        let (a, c) = ("a".repeat(64), "c".repeat(64));
        assert_eq!(
            text,
            format!("3:{a} 2026-03-01T10:00:00Z\n9:{c} 2026-03-01T10:00:00Z\n")
        );
        assert_eq!(read_kept(&file).expect("heads"), Some(vec![head(3, 'a'), head(9, 'c')]));
    }

    #[test]
    fn half_a_line_is_passed_over_and_taken_away_by_the_next_one() {
        let dir = tempfile::TempDir::new().expect("folder");
        let file = dir.path().join(FILE);
        for before in [String::new(), format!("3:{} 2026-03-01T10:00:00Z\n", "a".repeat(64))] {
            std::fs::write(&file, format!("{before}4:abc")).expect("write");
            let known = before.lines().count();
            assert_eq!(read(&file).expect("heads").len(), known);
            assert_eq!(add(&file, &head(5, 'b'), now()).expect("file"), Added::Written);
            let heads = read_kept(&file).expect("heads").expect("a file");
            assert_eq!((heads.len(), heads.last()), (known + 1, Some(&head(5, 'b'))));
        }
    }

    #[test]
    fn a_long_file_is_added_to_by_its_end_alone() {
        let dir = tempfile::TempDir::new().expect("folder");
        let file = dir.path().join(FILE);
        for seq in 1..=100 {
            assert_eq!(add(&file, &head(seq, 'a'), now()).expect("file"), Added::Written);
        }
        assert!(std::fs::metadata(&file).expect("file").len() > TAIL);
        assert_eq!(
            add(&file, &head(99, 'a'), now()).expect("file"),
            Added::Against(head(100, 'a'))
        );
        assert_eq!(read_kept(&file).expect("heads").map(|heads| heads.len()), Some(100));
    }

    #[test]
    fn a_file_that_was_changed_says_where() {
        let dir = tempfile::TempDir::new().expect("folder");
        let file = dir.path().join(FILE);
        let line = |seq: u64| format!("{seq}:{}\n", "a".repeat(64));
        for (text, at) in [
            (
                format!("{}nonsense\n{}", line(1), line(2)),
                "line 2: \"nonsense\" is no head",
            ),
            (
                format!("{}{}{}", line(1), line(5), line(4)),
                "line 3: entry 4 stands behind entry 5",
            ),
            (
                format!("{}{}", line(1), line(1)),
                "line 2: entry 1 stands behind entry 1",
            ),
            (format!("1:{} yesterday\n", "a".repeat(64)), "line 1"),
            (format!("1:{}\n", "a".repeat(63)), "line 1"),
        ] {
            std::fs::write(&file, text).expect("write");
            let error = read_kept(&file).expect_err(at).to_string();
            assert!(error.contains(at) && error.contains(FILE), "{error}");
        }
    }

    #[test]
    fn a_head_is_read_with_and_without_its_time() {
        let text = format!("7:{}", "A".repeat(64));
        assert_eq!(parse(&text), Ok(head(7, 'a')));
        assert_eq!(parse(&format!(" {text} 2026-03-01T10:00:00Z ")), Ok(head(7, 'a')));
        assert!(parse("7").is_err() && parse(&format!("x{text}")).is_err());
    }
}
