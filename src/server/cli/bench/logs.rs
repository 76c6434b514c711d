//! How fast the lines of a running job reach its viewers.

use std::net::SocketAddr;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::setup::{Bench, broken, failed};
use super::websocket::WebSocket;
use crate::domain::job::{JobId, NewJob};
use crate::domain::user::Actor;
use crate::server::cli::CliError;

const LINES: u64 = 50_000;

/// Lines of one job as they reach its viewers through the WebSocket: to one, and to a hundred at the same time (added up).
pub async fn measure(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let engine = system.work().await?;
    let served = system.serve().await?;
    let actor = Actor::local_admin();
    for (viewers, name, kept) in [
        (1, "log_lines_1_viewer", "log_lines_1_kept_percent"),
        (100, "log_lines_100_viewers", "log_lines_100_kept_percent"),
    ] {
        let job = NewJob::of("chatter", json!({ "lines": LINES }));
        let job = system.service.enqueue(&actor, job).await.map_err(failed)?.job;
        let began = Instant::now();
        let watching: Vec<_> = (0..viewers)
            .map(|_| tokio::spawn(watch(served.address, job.id)))
            .collect();
        let mut seen = Vec::with_capacity(watching.len());
        for viewer in watching {
            seen.push(viewer.await.map_err(broken)??);
        }
        let took = began.elapsed().as_secs_f64();
        // A job that logs faster than that can be stored has lines left out, with a mark. Every one that is there must have come.
        let stored = system
            .service
            .job_detail(&actor, job.id)
            .await
            .map_err(failed)?
            .log_lines;
        if let Some(seen) = seen.iter().find(|seen| **seen != stored) {
            return Err(broken(format_args!("{seen} of {stored} lines of a log came")));
        }
        bench.record(name, stored as f64 * f64::from(viewers) / took);
        bench.record(kept, stored as f64 / LINES as f64 * 100.0);
    }
    served.stop().await?;
    engine.shut_down().await;
    system.service.close().await;
    Ok(())
}

/// As much of a message as a viewer needs to know that nothing is missing.
#[derive(Deserialize)]
struct Heard {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    lines: Vec<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

/// Reads to the end, sees that the lines come once, in order and without a gap, and says how many there were.
async fn watch(server: SocketAddr, job: JobId) -> Result<u64, CliError> {
    let mut socket = WebSocket::open(server, &format!("/api/jobs/{job}/logs/ws"))
        .await
        .map_err(broken)?;
    let mut last = 0;
    while let Some(text) = socket.message().await.map_err(broken)? {
        let heard: Heard = serde_json::from_slice(&text).map_err(broken)?;
        for line in &heard.lines {
            if line.n != last + 1 {
                return Err(broken(format_args!("line {} of a log came after line {last}", line.n)));
            }
            last = line.n;
        }
        if heard.kind == "end" {
            return Ok(last);
        }
    }
    Err(broken(format_args!(
        "a log ended after line {last}, and nobody said so"
    )))
}
