//! The audit log: added to within the transaction of what it speaks of, and nothing else.

use sea_orm::{QueryResult, Value};
use sha2::{Digest, Sha256};

use super::Store;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::ops::to_json;
use super::postgres::texts;
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead, Deed};
use crate::domain::time::from_millis;

/// Rows that are read at once while the log is checked.
const PAGE: u64 = 1_000;
/// Findings that a check lists before it stops.
const FINDINGS_MAX: usize = 100;

/// What a check of the whole log came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub entries: u64,
    pub head: AuditHead,
    /// What is wrong, each in a sentence; empty: nothing.
    pub findings: Vec<String>,
}

/// The hash of an entry, as hexadecimal digits: SHA-256 over the hash before it, its number, its moment and its text.
fn hash(before: &str, seq: u64, at: i64, body: &str) -> String {
    let digest = Sha256::digest(format!("{before}\n{seq}\n{at}\n{body}"));
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// A row on its way into the table: its columns in their order.
pub(super) type Row = (u64, i64, String, String, String, String, String, String);

pub(super) const COLUMNS: [(&str, Ty); 8] = [
    ("seq", Ty::Int),
    ("at", Ty::Int),
    ("actor", Ty::Text),
    ("action", Ty::Text),
    ("object", Ty::Text),
    ("name", Ty::Text),
    ("body", Ty::Text),
    ("hash", Ty::Text),
];

/// The rows that follow upon `head`, on SQLite.
pub(super) fn rows<'d>(
    mut head: AuditHead,
    at: i64,
    deeds: impl IntoIterator<Item = &'d Deed>,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    for deed in deeds {
        let body = to_json(deed)?;
        let seq = head.seq + 1;
        head = AuditHead {
            seq,
            hash: hash(&head.hash, seq, at, &body),
        };
        let (actor, action) = (deed.actor.clone(), deed.action.clone());
        rows.push((
            seq,
            at,
            actor,
            action,
            deed.object.clone(),
            deed.name.clone(),
            body,
            head.hash.clone(),
        ));
    }
    Ok(rows)
}

/// The statement that writes [`rows`] on SQLite, which it is given as JSON at `place`.
pub(super) fn insert(place: &str) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let rows = Dialect::Sqlite.rows(place, &COLUMNS);
    format!("INSERT INTO audit ({names}) SELECT {names} FROM {rows} AS given ORDER BY seq")
}

/// The call that adds deeds on Postgres (see its migration), which are given by [`values`] from the place `$first` on; `at` is the
/// moment.
pub(super) fn call(at: &str, first: usize) -> String {
    let genesis = AuditHead::before_all().hash;
    let arrays: Vec<String> = (first..first + ARRAYS).map(|n| format!("${n}::text[]")).collect();
    format!("audit_append({at}, '{genesis}', {})", arrays.join(", "))
}

const ARRAYS: usize = 5;

/// The values of [`call`].
pub(super) fn values(deeds: &[Deed]) -> Result<[Value; ARRAYS], StoreError> {
    let bodies = deeds.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    let each = |part: fn(&Deed) -> &str| texts(deeds.iter().map(part));
    Ok([
        each(|d| &d.actor),
        each(|d| &d.action),
        each(|d| &d.object),
        each(|d| &d.name),
        texts(bodies.iter().map(String::as_str)),
    ])
}

const HEAD: &str = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";

fn read_head(row: Option<&QueryResult>) -> Result<AuditHead, StoreError> {
    Ok(match row {
        Some(row) => AuditHead {
            seq: row.u64("seq")?,
            hash: row.get("hash")?,
        },
        None => AuditHead::before_all(),
    })
}

/// Adds entries in this transaction. Comes behind all of it but the counts: from here on nobody else adds any until it ends.
pub(super) async fn append(tx: &Tx<'_>, deeds: &[Deed]) -> Result<(), StoreError> {
    if deeds.is_empty() {
        return Ok(());
    }
    if tx.dialect() == Dialect::Postgres {
        let text = format!("SELECT {} AS number", call("$1", 2));
        let values = std::iter::once(tx.now().into()).chain(values(deeds)?);
        tx.one(Sql::with(&text, values)).await?;
        return Ok(());
    }
    let head = read_head(tx.one(Sql::new(HEAD).build()).await?.as_ref())?;
    let rows = rows(head, tx.now(), deeds)?;
    tx.execute(Sql::with(&insert("$1"), [to_json(&rows)?.into()])).await?;
    Ok(())
}

fn entry(row: &QueryResult) -> Result<AuditEntry, StoreError> {
    let body: String = row.get("body")?;
    Ok(AuditEntry {
        seq: row.u64("seq")?,
        at: from_millis(row.get("at")?),
        deed: serde_json::from_str(&body).map_err(|e| StoreError::corrupt("audit", e))?,
        hash: row.get("hash")?,
    })
}

impl Store {
    /// Entries that match, the newest first, from before number `before` on, at most `limit`.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let AuditFilter {
            actor,
            action,
            object,
            name,
            since,
            until,
        } = filter;
        let mut sql = Sql::new("SELECT seq, at, body, hash FROM audit WHERE seq < ");
        sql.bind(before.map_or(i64::MAX, int));
        for (column, value) in [("actor", actor), ("action", action), ("object", object), ("name", name)] {
            if let Some(value) = value {
                sql.push(&format!(" AND {column} = ")).bind(value.as_str());
            }
        }
        if let Some(since) = since {
            sql.push(" AND at >= ").bind(since.timestamp_millis());
        }
        if let Some(until) = until {
            sql.push(" AND at <= ").bind(until.timestamp_millis());
        }
        sql.push(" ORDER BY seq DESC LIMIT ").bind(i64::from(limit));
        self.all(sql.build()).await?.iter().map(entry).collect()
    }

    /// Where the log ends.
    pub async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        read_head(self.one(Sql::new(HEAD).build()).await?.as_ref())
    }

    /// The actions that are in the log, by name.
    pub async fn audit_actions(&self) -> Result<Vec<String>, StoreError> {
        // From index entry to index entry, so that the length of the log does not matter.
        let text = "WITH RECURSIVE names (action) AS (SELECT MIN(action) FROM audit UNION ALL \
            SELECT (SELECT MIN(action) FROM audit WHERE action > names.action) FROM names WHERE names.action IS NOT NULL) \
            SELECT action FROM names WHERE action IS NOT NULL";
        let rows = self.all(Sql::new(text).build()).await?;
        rows.iter().map(|r| r.get("action")).collect()
    }

    /// Adds an entry that speaks of nothing in the database, such as a sign-in that failed.
    pub async fn note(&self, deed: Deed) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| Box::pin(async move { append(tx, &[deed]).await }))
            .await
    }

    /// Reads the whole log and checks that no entry was changed, taken out, put in or moved, and that it holds the `heads`,
    /// which were kept elsewhere.
    pub async fn verify_audit(&self, heads: &[AuditHead]) -> Result<Verdict, StoreError> {
        let mut head = read_head(None)?;
        let mut entries = 0;
        let mut findings = Vec::new();
        let mut heads = heads.to_vec();
        heads.sort_by_key(|h| h.seq);
        let mut wanted = heads.iter().peekable();
        let mut last: Option<i64> = None;
        'pages: loop {
            let mut sql = Sql::new("SELECT seq, at, actor, action, object, name, body, hash FROM audit");
            if let Some(last) = last {
                sql.push(" WHERE seq > ").bind(last);
            }
            sql.push(" ORDER BY seq LIMIT ").bind(int(PAGE));
            let page = self.all(sql.build()).await?;
            for row in &page {
                last = Some(row.int("seq")?);
                entries += 1;
                findings.extend(check(&head, row)?);
                head = read_head(Some(row))?;
                while let Some(kept) = wanted.next_if(|kept| kept.seq <= head.seq) {
                    if kept.seq != head.seq || kept.hash != head.hash {
                        findings.push(format!("entry {}: not the one whose hash was kept elsewhere", kept.seq));
                    }
                }
                if findings.len() >= FINDINGS_MAX {
                    break 'pages;
                }
            }
            if (page.len() as u64) < PAGE {
                break;
            }
        }
        if findings.len() < FINDINGS_MAX
            && let Some(kept) = heads.last().filter(|kept| kept.seq > head.seq)
        {
            findings.push(format!(
                "the log ends with entry {}, but one with the number {} was there: its end was cut off",
                head.seq, kept.seq
            ));
        }
        Ok(Verdict {
            entries,
            head,
            findings,
        })
    }
}

/// What is wrong with a row that stands behind `before`.
fn check(before: &AuditHead, row: &QueryResult) -> Result<Option<String>, StoreError> {
    let (seq, at, body): (i64, i64, String) = (row.int("seq")?, row.get("at")?, row.get("body")?);
    let next = int(before.seq) + 1;
    if seq != next {
        return Ok(Some(match seq < next {
            true => format!("entry {seq}: it stands before the first one"),
            false if seq == next + 1 => format!("entry {next}: it is missing"),
            false => format!("entries {next} to {}: they are missing", seq - 1),
        }));
    }
    let kept: String = row.get("hash")?;
    if kept != hash(&before.hash, before.seq + 1, at, &body) {
        return Ok(Some(format!("entry {seq}: it, or the one before it, was changed")));
    }
    let Ok(deed) = serde_json::from_str::<Deed>(&body) else {
        return Ok(Some(format!("entry {seq}: its text can't be read")));
    };
    for (column, told) in [
        ("actor", deed.actor),
        ("action", deed.action),
        ("object", deed.object),
        ("name", deed.name),
    ] {
        if row.get::<String>(column)? != told {
            return Ok(Some(format!("entry {seq}: its column {column} was changed")));
        }
    }
    Ok(None)
}
