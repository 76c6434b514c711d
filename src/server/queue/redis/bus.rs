//! Live traffic through Redis: what one process says, all others hear. Within the process it goes directly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::Link;
use crate::domain::job::JobId;
use crate::domain::log::LogLine;
use crate::server::queue::memory::MemoryBus;
use crate::server::queue::{Bus, Change, Signal};

/// How long changes are collected before they are sent, and how many jobs are named in one message at the most: of more,
/// viewers look again anyway.
const FOLD: Duration = Duration::from_millis(50);
const JOBS_MAX: usize = 200;

/// What goes over the channel of changes.
#[derive(Serialize, Deserialize)]
struct Told<T> {
    /// Who says it: processes don't listen to themselves.
    from: Uuid,
    what: T,
}

/// Changes that wait to be sent.
#[derive(Default)]
struct Outbox {
    changes: HashMap<JobId, Change>,
    many: bool,
    /// The kinds that workers outside run have changed.
    kinds: bool,
    sending: bool,
}

pub struct RedisBus {
    inner: Arc<Inner>,
}

struct Inner {
    link: Arc<Link>,
    me: Uuid,
    local: MemoryBus,
    outbox: Mutex<Outbox>,
    /// Jobs whose lines this process has asked for.
    followed: Mutex<HashMap<JobId, String>>,
}

impl RedisBus {
    pub async fn new(link: Arc<Link>) -> Result<Self, fred::error::Error> {
        let inner = Arc::new(Inner {
            me: Uuid::new_v4(),
            local: MemoryBus::default(),
            outbox: Mutex::default(),
            followed: Mutex::default(),
            link,
        });
        let messages = inner.link.subscriber.message_rx();
        let link = &inner.link;
        link.subscriber
            .subscribe(vec![link.key("changes"), link.key("signals")])
            .await?;
        tokio::spawn(listen(inner.clone(), messages));
        Ok(Self { inner })
    }
}

impl Inner {
    fn publish(self: &Arc<Self>, channel: String, message: String) {
        if !self.link.is_up() {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            use fred::interfaces::PubsubInterface;
            if let Err(error) = inner.link.client.publish::<(), _, _>(channel, message).await {
                tracing::debug!(%error, "live traffic could not be sent");
            }
        });
    }

    fn told<T: Serialize>(&self, what: T) -> Option<String> {
        let told = Told { from: self.me, what };
        serde_json::to_string(&told)
            .inspect_err(|error| tracing::error!(%error, "live traffic can't be written"))
            .ok()
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_soon(self: Arc<Self>) {
        tokio::time::sleep(FOLD).await;
        let changes = {
            let mut outbox = self.outbox();
            outbox.sending = false;
            let changes: Vec<Change> = outbox.changes.drain().map(|(_, change)| change).collect();
            let mut changes = match std::mem::take(&mut outbox.many) {
                true => vec![Change::Many],
                false => changes,
            };
            if std::mem::take(&mut outbox.kinds) {
                changes.push(Change::Kinds);
            }
            changes
        };
        if let Some(message) = self.told(changes) {
            self.publish(self.link.key("changes"), message);
        }
    }

    fn hear(&self, message: &Message) {
        let Some(text) = message.value.as_str() else { return };
        let Some(name) = message.channel.strip_prefix(self.link.prefix.as_str()) else {
            return;
        };
        let heard = match name {
            "changes" => serde_json::from_str::<Told<Vec<Change>>>(&text).map(|told| {
                if told.from != self.me {
                    told.what.into_iter().for_each(|change| self.local.change(change));
                }
            }),
            "signals" => serde_json::from_str::<Told<Signal>>(&text).map(|told| {
                if told.from != self.me {
                    self.local.signal(told.what);
                }
            }),
            _ => serde_json::from_str::<Told<(JobId, Vec<LogLine>)>>(&text).map(|told| {
                if told.from != self.me {
                    self.local.lines(told.what.0, told.what.1);
                }
            }),
        };
        if let Err(error) = heard {
            // A process of another version, during an upgrade: whoever needs certainty asks the database.
            tracing::debug!(%error, channel = name, "live traffic of another version");
            self.missed();
        }
    }

    /// Something may have been missed: everybody looks again.
    fn missed(&self) {
        self.local.change(Change::Many);
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        for id in followed.keys() {
            self.local.lines(*id, Vec::new());
        }
    }

    /// Lets go of channels that nobody here follows any more.
    fn tidy(self: &Arc<Self>) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<JobId> = followed
            .keys()
            .filter(|id| !self.local.is_followed(**id))
            .copied()
            .collect();
        let channels: Vec<String> = gone.iter().filter_map(|id| followed.remove(id)).collect();
        drop(followed);
        if !channels.is_empty() {
            let inner = self.clone();
            tokio::spawn(async move {
                if let Err(error) = inner.link.subscriber.unsubscribe(channels).await {
                    tracing::debug!(%error, "a log's channel could not be left");
                }
            });
        }
    }
}

async fn listen(inner: Arc<Inner>, mut messages: broadcast::Receiver<Message>) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = inner.link.stop.cancelled() => return,
            () = inner.link.heard.notified() => inner.missed(),
            _ = tick.tick() => inner.tidy(),
            message = messages.recv() => match message {
                Ok(message) => inner.hear(&message),
                Err(broadcast::error::RecvError::Lagged(_)) => inner.missed(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

impl Bus for RedisBus {
    fn change(&self, change: Change) {
        let mut outbox = self.inner.outbox();
        match &change {
            Change::Job(job) | Change::Removed(job) => {
                if outbox.changes.len() >= JOBS_MAX {
                    outbox.many = true;
                    outbox.changes.clear();
                } else if !outbox.many {
                    outbox.changes.insert(job.id, change.clone());
                }
            }
            Change::Many => outbox.many = true,
            Change::Kinds => outbox.kinds = true,
        }
        if !std::mem::replace(&mut outbox.sending, true) {
            tokio::spawn(self.inner.clone().send_soon());
        }
        drop(outbox);
        self.inner.local.change(change);
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.local.changes()
    }

    fn signal(&self, signal: Signal) {
        self.inner.local.signal(signal);
        if let Some(message) = self.inner.told(signal) {
            self.inner.publish(self.inner.link.key("signals"), message);
        }
    }

    fn signals(&self) -> broadcast::Receiver<Signal> {
        self.inner.local.signals()
    }

    fn lines(&self, id: JobId, lines: Vec<LogLine>) {
        if let Some(message) = self.inner.told((id, &lines)) {
            self.inner.publish(self.inner.link.key(&format!("lines:{id}")), message);
        }
        self.inner.local.lines(id, lines);
    }

    fn follow(&self, id: JobId) -> broadcast::Receiver<Arc<Vec<LogLine>>> {
        let receiver = self.inner.local.follow(id);
        let channel = self.inner.link.key(&format!("lines:{id}"));
        let mut followed = self.inner.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if followed.insert(id, channel.clone()).is_none() {
            let inner = self.inner.clone();
            tokio::spawn(async move {
                if let Err(error) = inner.link.subscriber.subscribe(channel).await {
                    tracing::debug!(%error, "a log's channel could not be joined");
                }
                // What came before the channel was joined is stored.
                inner.local.lines(id, Vec::new());
            });
        }
        receiver
    }
}
