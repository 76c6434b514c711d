//! The audit log as a file.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, stream};

use crate::domain::audit::{AuditEntry, AuditFilter, FIELDS};
use crate::domain::error::Problem;
use crate::domain::filter::choices;
use crate::server::http::AppState;
use crate::server::http::auth::{Caller, Visitor};
use crate::server::http::extract::{Answer, Params};

/// All entries that match as a file, the newest first: NDJSON, or CSV with `token` (the id) and `token_name`, and `before` and `after` as JSON. The export itself is an
/// entry, too.
#[utoipa::path(get, path = "/api/admin/audit-logs/export", tag = "audit", params(
    ("format" = Option<String>, Query, description = "ndjson (default) or csv"),
    ("actor" = Option<String>, Query, description = "Who did it"), ("action" = Option<String>, Query, description = "Like job.cancel"),
    ("object" = Option<String>, Query, description = "What it was done to, like job"), ("name" = Option<String>, Query, description = "Which one"),
    ("since" = Option<String>, Query, description = "RFC 3339"), ("until" = Option<String>, Query, description = "RFC 3339")),
    responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 400, body = Problem)))]
pub async fn export(
    State(state): State<AppState>,
    Caller(actor): Caller,
    visitor: Visitor,
    params: Params,
) -> Answer<Response> {
    params.only(&[&FIELDS[..], &["format"]].concat())?;
    let filter = AuditFilter::from_pairs(params.pairs())?;
    let format = match params.get("format") {
        None | Some("ndjson") => Format::Ndjson,
        Some("csv") => Format::Csv,
        Some(other) => return Err(Problem::invalid("format", choices("format", other, ["ndjson", "csv"])).into()),
    };
    // What the caller may not see is refused before the answer begins.
    state.service.begin_audit_export(&actor, &filter, format.name()).await?;
    let service = state.service;
    let pages = stream::try_unfold(Some(None), move |next: Option<Option<u64>>| {
        let (service, actor, filter, visitor) = (service.clone(), actor.clone(), filter.clone(), visitor.clone());
        async move {
            let Some(before) = next else {
                return Ok::<_, Problem>(None);
            };
            visitor.still(&service).await?;
            let page = service.audit(&actor, &filter, before, Some(1_000)).await?;
            Ok(Some((page.items, page.next.map(Some))))
        }
    });
    // When a page can't be had the transfer breaks off, so that nobody takes a part for the whole.
    let parts = pages
        .map_err(|problem| std::io::Error::other(problem.to_string()))
        .map(move |page| format.write(&page?));
    let head = stream::iter(format.head().map(Ok));
    let (media, disposition) = format.headers();
    let headers = [(CONTENT_TYPE, media), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, Body::from_stream(head.chain(parts))).into_response())
}

/// How the audit log is had as a file.
#[derive(Clone, Copy)]
enum Format {
    Ndjson,
    Csv,
}

/// The columns of the log as CSV.
const COLUMNS: [&str; 14] = [
    "seq",
    "at",
    "actor",
    "via",
    "token",
    "token_name",
    "address",
    "action",
    "object",
    "name",
    "reason",
    "before",
    "after",
    "hash",
];

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// The media type, and what a browser does with it.
    fn headers(self) -> (&'static str, &'static str) {
        match self {
            Self::Ndjson => ("application/x-ndjson", "attachment; filename=\"audit-log.ndjson\""),
            Self::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"audit-log.csv\""),
        }
    }

    /// What the file begins with.
    fn head(self) -> Option<Bytes> {
        match self {
            Self::Ndjson => None,
            Self::Csv => Some(Bytes::from(format!("{}\r\n", COLUMNS.join(",")))),
        }
    }

    fn write(self, entries: &[AuditEntry]) -> std::io::Result<Bytes> {
        let mut text = Vec::new();
        for entry in entries {
            match self {
                Self::Ndjson => {
                    serde_json::to_writer(&mut text, entry)?;
                    text.push(b'\n');
                }
                Self::Csv => text.extend_from_slice(row(entry)?.as_bytes()),
            }
        }
        Ok(Bytes::from(text))
    }
}

fn row(entry: &AuditEntry) -> std::io::Result<String> {
    let AuditEntry { seq, at, deed, hash } = entry;
    let json = |value: &Option<serde_json::Value>| match value {
        Some(value) => serde_json::to_string(value),
        None => Ok(String::new()),
    };
    let cells: [String; COLUMNS.len()] = [
        seq.to_string(),
        at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        deed.actor.clone(),
        deed.via.as_str().into(),
        deed.token
            .as_ref()
            .map(|token| token.id.to_string())
            .unwrap_or_default(),
        deed.token.as_ref().map(|token| token.name.clone()).unwrap_or_default(),
        deed.address.clone(),
        deed.action.clone(),
        deed.object.clone(),
        deed.name.clone(),
        deed.reason.clone(),
        json(&deed.before)?,
        json(&deed.after)?,
        hash.clone(),
    ];
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    Ok(format!("{}\r\n", cells.join(",")))
}

/// A cell of a CSV (RFC 4180). Spreadsheets take some beginnings for a formula: an apostrophe goes before those.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    match guard.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        true => text.into(),
        false => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        assert_eq!(cell("job.cancel"), "job.cancel");
        assert_eq!(cell("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("@x"), "\"'@x\"");
        assert_eq!(cell("{\"a\":1}"), "\"{\"\"a\"\":1}\"");
    }
}
