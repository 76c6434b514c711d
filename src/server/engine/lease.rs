//! Keeps the leases of this process, and hears what people want of its attempts.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::broadcast::error::RecvError;

use super::{Backoff, Shared};
use crate::server::queue::{Signal, Wish};
use crate::server::store::{StoreError, WorkerRow};

/// Renews all leases three times in their length, in one statement. Its answer says which are lost and which shall be cancelled.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let every = shared.settings.renew_every();
    let mut wait = every;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match renew(&shared).await {
            Ok(()) => {
                backoff.reset();
                every
            }
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, "leases could not be renewed");
                }
                pause.min(every)
            }
        };
        give_up_expired(&shared);
    }
}

async fn renew(shared: &Shared) -> Result<(), StoreError> {
    beat(shared).await?;
    let leases = shared.running.leases();
    if leases.is_empty() {
        return Ok(());
    }
    let held = shared
        .service
        .store
        .heartbeat(leases.clone(), shared.settings.lease_ms())
        .await?;
    for beat in &held {
        shared.running.confirm(beat.lease);
        if beat.cancel_requested {
            shared.running.cancel(beat.lease.key());
        }
        if beat.pause_requested {
            shared.running.pause(beat.lease.key());
        }
    }
    for lease in leases {
        // An attempt that ended between the two looks, or is about to, has lost nothing.
        if !held.iter().any(|b| b.lease == lease) && shared.running.works(lease) {
            tracing::warn!(job = %lease.id, epoch = lease.epoch, "a lease was lost; its attempt ends");
            shared.running.abort(lease.key());
        }
    }
    Ok(())
}

/// Ends attempts whose lease the database has not confirmed for its whole length: by now it may be another's.
fn give_up_expired(shared: &Shared) {
    for attempt in shared.running.all() {
        if attempt.confirmed.elapsed() > shared.settings.lease {
            tracing::warn!(job = %attempt.lease.id, "a lease could not be kept; its attempt ends");
            shared.running.abort(attempt.lease.key());
        }
    }
}

/// Says that this worker lives.
pub(super) async fn beat(shared: &Shared) -> Result<(), StoreError> {
    let started = Instant::now();
    let row = WorkerRow {
        id: shared.worker.clone(),
        host: super::host(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        slots: shared.settings.slots,
        in_use: slots_in_use(shared),
    };
    shared.service.store.worker_beat(row).await?;
    metrics::gauge!("windlass_slots_in_use").set(f64::from(slots_in_use(shared)));
    metrics::histogram!("windlass_heartbeat_seconds").record(started.elapsed().as_secs_f64());
    Ok(())
}

/// Hands signals on to the attempts. A signal that gets lost is made up for by the next heartbeat.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut signals = shared.service.bus.signals();
    loop {
        let signal = tokio::select! {
            () = shared.stop.cancelled() => return,
            signal = signals.recv() => signal,
        };
        match signal {
            Ok(Signal { id, epoch, wish }) => match wish {
                Wish::Cancel => shared.running.cancel((id, epoch)),
                Wish::Pause => shared.running.pause((id, epoch)),
                Wish::Abort => shared.running.abort((id, epoch)),
            },
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn slots_in_use(shared: &Shared) -> u32 {
    let free = u32::try_from(shared.slots.available_permits()).unwrap_or(u32::MAX);
    shared.settings.slots.saturating_sub(free)
}
