//! The index and the bus in a Redis, shared by any number of processes. All keys begin with one prefix and hash tag, so that
//! they lie in one slot of a cluster. Nothing here is a fact: an emptied Redis is filled again from the database.

mod bus;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use fred::clients::{Client, SubscriberClient};
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, KeysInterface};
use fred::types::config::{Config, ReconnectPolicy, Server};
use fred::types::{Builder, InfoKind, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

pub use bus::RedisBus;
pub use queue::RedisQueue;

use crate::server::config::RedisUrl;

/// How long a command may take before Redis counts as away.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a Redis that is away is asked whether it is back, and one that is there whether it still is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the connection that only listens is asked whether it still hears.
const PING_EVERY: Duration = Duration::from_secs(5);
/// The oldest version that has all that the scripts use (ZADD with GT and LT, SPOP with counts, LPOP with counts).
const VERSION_MIN: (u32, u32) = (6, 2);

/// Why a Redis can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error("the Redis {url} can't be used: {source}")]
    Connect {
        url: String,
        #[source]
        source: Error,
    },
    #[error("the Redis {url} can't be used: it did not answer within {PATIENCE:?}")]
    Silent { url: String },
    #[error("the Redis {url} is version {version}; {}.{} or newer is needed", VERSION_MIN.0, VERSION_MIN.1)]
    Version { url: String, version: String },
}

/// The way to one Redis, and whether it answers.
pub struct Link {
    /// For commands that answer at once.
    client: Client,
    /// For the one command that waits.
    waiter: Client,
    subscriber: SubscriberClient,
    prefix: String,
    up: watch::Sender<bool>,
    /// It came back, and may have lost what it knew.
    back: Notify,
    /// The same, for the bus.
    heard: Notify,
    stop: CancellationToken,
}

impl Link {
    /// Connects, and refuses a Redis that does not answer or is too old.
    pub async fn connect(url: &RedisUrl, prefix: &str) -> Result<Arc<Self>, RedisError> {
        let failed = |source| RedisError::Connect {
            url: url.to_string(),
            source,
        };
        let mut builder = Builder::from_config(Config::from_url(url.as_str()).map_err(failed)?);
        builder
            .with_connection_config(|c| {
                c.connection_timeout = PATIENCE;
                c.internal_command_timeout = PATIENCE;
                // What fails is found again by the reconciler; trying twice could take jobs twice.
                c.max_command_attempts = 1;
                c.tcp.nodelay = Some(true);
            })
            .with_performance_config(|p| {
                p.default_command_timeout = PATIENCE;
                p.broadcast_channel_capacity = 8_192;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 1_000, 2));
        let client = builder.build().map_err(failed)?;
        let subscriber = builder.build_subscriber_client().map_err(failed)?;
        builder.with_performance_config(|p| p.default_command_timeout = Duration::ZERO);
        let waiter = builder.build().map_err(failed)?;
        match timeout(PATIENCE * 2, client.init()).await {
            Ok(done) => done.map_err(failed)?,
            Err(_) => return Err(RedisError::Silent { url: url.to_string() }),
        };
        let info: String = client.info(Some(InfoKind::Server)).await.map_err(failed)?;
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"))
            .unwrap_or("unknown");
        if !new_enough(version) {
            let (url, version) = (url.to_string(), version.trim().to_string());
            return Err(RedisError::Version { url, version });
        }
        waiter.init().await.map_err(failed)?;
        subscriber.init().await.map_err(failed)?;
        let link = Arc::new(Self {
            client,
            waiter,
            subscriber,
            prefix: format!("{{{prefix}}}:"),
            up: watch::Sender::new(true),
            back: Notify::new(),
            heard: Notify::new(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(link.clone().look());
        tokio::spawn(link.clone().stay_subscribed());
        for client in [&link.client, &link.waiter] {
            tokio::spawn(link.clone().listen(client.error_rx()));
        }
        Ok(link)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// What a command answers, or nothing when it failed or Redis went away meanwhile: nobody waits for the time limit of a
    /// command whose connection is gone.
    async fn asked<R>(&self, command: impl Future<Output = Result<R, Error>>) -> Option<R> {
        let mut up = self.up.subscribe();
        tokio::select! {
            biased;
            _ = up.wait_for(|up| !up) => None,
            answer = command => answer.map_err(|error| self.failed(&error)).ok(),
        }
    }

    /// A command failed: until a look finds Redis well, nobody waits for it.
    fn failed(&self, error: &Error) {
        if self.up.send_replace(false) {
            tracing::warn!(%error, "Redis does not answer; jobs are looked for in the database until it does");
        }
    }

    /// Hears at once of connections that break, until the client ends.
    async fn listen(self: Arc<Self>, mut errors: broadcast::Receiver<(Error, Option<Server>)>) {
        loop {
            match errors.recv().await {
                Ok((error, _)) => self.failed(&error),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Looks whether Redis answers, and tells when it does again: what it knew may be gone.
    async fn look(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // Of a cluster the node that has the keys is the one that counts, which a PING need not reach.
            match timeout(PATIENCE, self.client.exists::<i64, _>(self.key("marker"))).await {
                Ok(Ok(_)) => {
                    if !self.up.send_replace(true) {
                        tracing::info!("Redis answers again");
                        self.back.notify_one();
                        self.heard.notify_one();
                    }
                }
                Ok(Err(error)) => self.failed(&error),
                Err(_) => self.failed(&Error::new(fred::error::ErrorKind::Timeout, "no answer to EXISTS")),
            }
        }
    }

    /// Joins the channels again when their connection had to be made anew, and then tells the bus, which has missed what was said
    /// meanwhile. A connection that breaks tells so; one that only grows silent is found out by asking it.
    async fn stay_subscribed(self: Arc<Self>) {
        let (mut made, mut errors) = (self.subscriber.reconnect_rx(), self.subscriber.error_rx());
        let mut tick = tokio::time::interval(PING_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut joined = true;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                error = errors.recv() => match error {
                    Ok((error, _)) => tracing::debug!(%error, "the connection for live traffic broke"),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                server = made.recv() => match server {
                    Ok(_) | Err(RecvError::Lagged(_)) => joined = self.rejoin().await,
                    Err(RecvError::Closed) => return,
                },
                // While Redis is away the client tries by itself.
                _ = tick.tick(), if self.is_up() => match joined {
                    true => self.ping().await,
                    false => joined = self.rejoin().await,
                },
            }
        }
    }

    async fn rejoin(&self) -> bool {
        match timeout(PATIENCE, self.subscriber.resubscribe_all()).await {
            Ok(Ok(())) => {
                self.heard.notify_one();
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the channels could not be joined again");
                false
            }
            Err(_) => false,
        }
    }

    async fn ping(&self) {
        let silent = match timeout(PATIENCE, self.subscriber.ping::<Value>(None)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer to PING".into(),
        };
        tracing::debug!(error = silent, "the connection for live traffic is made anew");
        let renewed = timeout(PATIENCE, self.subscriber.force_reconnection()).await;
        if let Ok(Err(error)) = renewed {
            tracing::debug!(%error, "the connection for live traffic could not be made anew");
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.stop.cancel();
        for ended in [
            self.client.quit().await,
            self.waiter.quit().await,
            self.subscriber.quit().await,
        ] {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to Redis could not be closed");
            }
        }
    }
}

fn new_enough(version: &str) -> bool {
    let mut numbers = version.trim().split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= VERSION_MIN
}

#[cfg(test)]
mod tests {
    use super::new_enough;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(["6.2.0", "7.0.15", "10.0", "6.10.1"].into_iter().all(new_enough));
        assert!(!["6.0.16", "5.0.14", "unknown", ""].into_iter().any(new_enough));
    }
}
