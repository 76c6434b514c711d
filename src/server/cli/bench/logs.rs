//! How fast the lines of a running job reach its viewers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::setup::{Bench, broken, failed};
use super::websocket::WebSocket;
use crate::domain::job::{JobId, NewJob};
use crate::domain::user::Actor;
use crate::server::cli::CliError;

const LINES: u64 = 50_000;
/// How often a viewer that is cut off comes back, and when.
const RECONNECTS_MAX: u32 = 20;
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Lines of one job as they reach its viewers through the WebSocket: to one, and to a hundred at the same time (added up).
pub async fn measure(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let engine = system.work().await?;
    let served = system.serve().await?;
    let actor = Actor::machine();
    for (viewers, [name, kept, cut]) in [
        (
            1,
            [
                "log_lines_1_viewer",
                "log_lines_1_kept_percent",
                "log_lines_1_reconnects",
            ],
        ),
        (
            100,
            [
                "log_lines_100_viewers",
                "log_lines_100_kept_percent",
                "log_lines_100_reconnects",
            ],
        ),
    ] {
        let job = NewJob::of("chatter", json!({ "lines": LINES }));
        let job = system.service.enqueue(&actor, job).await.map_err(failed)?.job;
        let began = Instant::now();
        let watching: Vec<_> = (0..viewers)
            .map(|_| tokio::spawn(watch(served.address, job.id, served.token.clone())))
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
        if let Some(seen) = seen.iter().find(|seen| seen.lines != stored) {
            return Err(broken(format_args!("{} of {stored} lines of a log came", seen.lines)));
        }
        let reconnects: u32 = seen.iter().map(|seen| seen.reconnects).sum();
        bench.record(cut, f64::from(reconnects));
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

/// What a viewer was sent.
struct Watched {
    lines: u64,
    /// How often it was cut off.
    reconnects: u32,
}

/// Reads to the end, and sees that the lines come once, in order and without a gap. Where the server lets go of it, it comes back for
/// what follows the last line that it has, as the dashboard does.
async fn watch(server: SocketAddr, job: JobId, token: String) -> Result<Watched, CliError> {
    let (mut last, mut reconnects) = (0, 0);
    loop {
        let path = format!("/api/jobs/{job}/logs/ws?after={last}");
        let mut socket = WebSocket::open(server, &path, &token).await.map_err(broken)?;
        while let Some(text) = socket.message().await.map_err(broken)? {
            let heard: Heard = serde_json::from_slice(&text).map_err(broken)?;
            for line in &heard.lines {
                if line.n != last + 1 {
                    return Err(broken(format_args!("line {} of a log came after line {last}", line.n)));
                }
                last = line.n;
            }
            if heard.kind == "end" {
                return Ok(Watched {
                    lines: last,
                    reconnects,
                });
            }
        }
        if reconnects == RECONNECTS_MAX {
            return Err(broken(format_args!(
                "a log ended after line {last}, and {reconnects} new connections did not help"
            )));
        }
        reconnects += 1;
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}
