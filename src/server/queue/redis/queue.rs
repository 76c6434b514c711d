//! The index in Redis. Each operation is one script, so that it happens as a whole.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{KeysInterface, ListInterface};
use fred::types::scripts::Script;
use fred::types::{Expiration, FromValue, SetOptions, Value};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Link, PATIENCE};
use crate::server::queue::{Away, Cell, Entry, Hold, Queue, SUSPECTS};

/// How long a taken job is kept for its taker to claim it.
const KEEP_MS: i64 = 15_000;
/// How long one process may be at filling the index before another begins anew.
const FILL_S: i64 = 60;
/// How long a worker waits before it looks by itself: holds end without a token.
const WAIT_S: f64 = 1.0;
/// How long whoever takes jobs back waits for what was announced before.
const BEHIND: Duration = Duration::from_millis(500);
/// [`RedisQueue::soon`], unless told otherwise: what waiting for the turn to be claimed would hardly take.
const SOON: Duration = Duration::from_millis(20);
/// Entries that one script is given at once, and callers whose entries go together.
const CHUNK: usize = 500;
const CALLERS: usize = 500;

macro_rules! script {
    ($name:literal) => {
        Script::from_lua(concat!(include_str!("common.lua"), include_str!($name)))
    };
}

/// What waits, in Redis.
pub struct RedisQueue {
    scripts: Arc<Scripts>,
    due: Notify,
    /// Who fills the index, and whether that is this process.
    me: String,
    filling: AtomicBool,
    /// The question whether something came that is under way, and how many takers wait for its answer.
    coming: Mutex<Option<Coming>>,
    waiting: Arc<AtomicUsize>,
    announcements: mpsc::UnboundedSender<Announcement>,
    /// Those that are on their way.
    behind: Arc<AtomicUsize>,
    /// An announcement of this process is on its way: whoever waits here need not wait to hear of it from Redis.
    on_its_way: Arc<Notify>,
    /// How long a new job waits for Redis to say whether it is its turn.
    soon: Duration,
}

/// Entries as `announce.lua` is given them, and who waits to hear that the index has them, if anybody does.
struct Announcement {
    args: Vec<String>,
    told: Option<oneshot::Sender<Result<(), Away>>>,
}

struct Scripts {
    link: Arc<Link>,
    jobs: String,
    /// The marker was found missing.
    emptied: Notify,
    announce: Script,
    withdraw: Script,
    take: Script,
    settle: Script,
    give_back: Script,
    hold: Script,
    release: Script,
    turn: Script,
    waiting: Script,
    filling: Script,
    filled: Script,
}

impl RedisQueue {
    pub fn new(link: Arc<Link>) -> Self {
        let scripts = Scripts {
            jobs: link.key("jobs"),
            link,
            emptied: Notify::new(),
            announce: script!("announce.lua"),
            withdraw: script!("withdraw.lua"),
            take: script!("take.lua"),
            settle: script!("settle.lua"),
            give_back: script!("give_back.lua"),
            hold: script!("hold.lua"),
            release: script!("release.lua"),
            turn: script!("turn.lua"),
            waiting: script!("waiting.lua"),
            filling: script!("filling.lua"),
            filled: script!("filled.lua"),
        };
        let scripts = Arc::new(scripts);
        let (announcements, asked) = mpsc::unbounded_channel();
        let (on_its_way, behind) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(announce(scripts.clone(), asked, on_its_way.clone(), behind.clone()));
        Self {
            scripts,
            due: Notify::new(),
            me: Uuid::new_v4().to_string(),
            filling: AtomicBool::new(false),
            coming: Mutex::default(),
            waiting: Arc::default(),
            announcements,
            behind,
            on_its_way,
            soon: SOON,
        }
    }

    /// For whoever would rather wait for so long for an answer of [`Queue::take_turn`].
    pub fn patient(self, soon: Duration) -> Self {
        Self { soon, ..self }
    }

    /// Hands entries to the task that announces for everybody.
    fn hand_in(&self, entries: &[Entry], told: Option<oneshot::Sender<Result<(), Away>>>) -> Result<(), Away> {
        let args = entries.iter().flat_map(|e| [text(e.seq), place(e)]).collect();
        self.behind.fetch_add(1, Ordering::SeqCst);
        self.announcements.send(Announcement { args, told }).map_err(|_| Away)
    }

    /// Resolves when the index has what was announced so far, or can't be told.
    async fn announced(&self, entries: &[Entry]) -> Result<(), Away> {
        let (told, done) = oneshot::channel();
        self.hand_in(entries, Some(told))?;
        done.await.unwrap_or(Err(Away))
    }

    /// [`Scripts::look`], such that jobs whose taker goes away in the middle wait again at once.
    async fn look(&self, max: usize, suspect: bool) -> Result<Found, Away> {
        let (sender, receiver) = oneshot::channel();
        let scripts = self.scripts.clone();
        tokio::spawn(async move {
            let taken = scripts.look(max, suspect).await;
            if let Err(Ok((seqs, _))) = sender.send(taken) {
                scripts.give_back(&seqs).await;
            }
        });
        let mut looking = Looking {
            receiver,
            scripts: self.scripts.clone(),
        };
        (&mut looking.receiver).await.unwrap_or(Err(Away))
    }

    /// Resolves when something came, or nothing for a while. A taker that goes away in the middle leaves the question to the next
    /// one: the client does not take back what it has asked, and an answer that nobody hears would be a worker that sleeps on.
    fn something_came(&self) -> Coming {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = coming.as_ref().filter(|asked| asked.peek().is_none()) {
            return asked.clone();
        }
        let (link, waiting) = (self.scripts.link.clone(), self.waiting.clone());
        let asking = tokio::spawn(async move {
            let key = link.key("wake");
            let token = async {
                let token = link.waiter.blpop::<Value, _>(&key, WAIT_S);
                match timeout(Duration::from_secs_f64(WAIT_S * 3.0), token).await {
                    // Redis says that nothing came in time, which the client tells as an error.
                    Ok(Err(error)) if *error.kind() == ErrorKind::Timeout => Ok(false),
                    Ok(answer) => answer.map(|token| !token.is_null()),
                    Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer to BLPOP")),
                }
            };
            let came = link.asked(token).await.ok_or(Away)?;
            if came && waiting.load(Ordering::SeqCst) == 0 {
                // Whoever asked has work by now: the token is for another process.
                let back = link.client.rpush::<(), _, _>(&key, "1");
                link.asked(back).await.ok_or(Away)?;
            }
            Ok(())
        });
        let asked = asking.map(|asked| asked.unwrap_or(Err(Away))).boxed().shared();
        *coming = Some(asked.clone());
        asked
    }
}

/// Announces for everybody: what comes while a call is under way goes along with the next one, since one call for many costs
/// hardly more than one for each. Ends with the queue.
async fn announce(
    scripts: Arc<Scripts>,
    mut asked: mpsc::UnboundedReceiver<Announcement>,
    on_its_way: Arc<Notify>,
    behind: Arc<AtomicUsize>,
) {
    let mut waiting: Vec<Announcement> = Vec::new();
    while asked.recv_many(&mut waiting, CALLERS).await > 0 {
        let mut args: Vec<String> = waiting.iter_mut().flat_map(|one| one.args.drain(..)).collect();
        let mut done = Ok(());
        while done.is_ok() && !args.is_empty() {
            let rest = args.split_off(args.len().min(2 * CHUNK));
            let chunk = std::mem::replace(&mut args, rest);
            // First polled, first sent: whoever is woken asks behind it, on the same connection.
            let told = scripts.run::<i64>(&scripts.announce, chunk);
            let (told, ()) = tokio::join!(biased; told, async { on_its_way.notify_one() });
            done = told.map(drop);
        }
        behind.fetch_sub(waiting.len(), Ordering::SeqCst);
        for told in waiting.drain(..).filter_map(|one| one.told) {
            // Whoever has gone away meanwhile need not hear it.
            let _ = told.send(done);
        }
    }
}

/// A taker that waits, for as long as it does.
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn one_more(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What was asked of Redis, which several may wait for.
type Coming = Shared<BoxFuture<'static, Result<(), Away>>>;

/// Numbers that were taken, and whether nothing that may go is left.
type Found = (Vec<i64>, bool);

/// Jobs on their way to a taker: should it be gone when they arrive, they wait again.
struct Looking {
    receiver: oneshot::Receiver<Result<Found, Away>>,
    scripts: Arc<Scripts>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Ok((seqs, _))) = self.receiver.try_recv()
            && !seqs.is_empty()
        {
            let scripts = self.scripts.clone();
            tokio::spawn(async move { scripts.give_back(&seqs).await });
        }
    }
}

impl Scripts {
    async fn run<R: FromValue>(&self, script: &Script, args: Vec<String>) -> Result<R, Away> {
        if !self.link.is_up() {
            return Err(Away);
        }
        let args: Vec<Value> = args.into_iter().map(Value::from).collect();
        let script = script.evalsha_with_reload(&self.link.client, self.jobs.as_str(), args);
        self.link.asked(script).await.ok_or(Away)
    }

    async fn look(&self, max: usize, suspect: bool) -> Result<Found, Away> {
        let lanes = if suspect { SUSPECTS } else { SUSPECTS - 1 };
        let args = vec![max.to_string(), KEEP_MS.to_string(), lanes.to_string()];
        let mut answer: Vec<i64> = self.run(&self.take, args).await?;
        if answer.len() < 2 {
            return Err(Away);
        }
        let seqs = answer.split_off(2);
        if answer[0] == 0 {
            self.emptied.notify_one();
        }
        Ok((seqs, answer[1] == 1))
    }

    async fn give_back(&self, seqs: &[i64]) {
        if !seqs.is_empty() {
            // What stays is swept after its deadline.
            let _ = self.run::<i64>(&self.give_back, texts(seqs)).await;
        }
    }
}

/// The place of an entry as the scripts read it.
fn place(entry: &Entry) -> String {
    format!("{}|{}|{}", entry.lane, entry.since, cell_text(&entry.cell))
}

fn cell_text(cell: &Cell) -> String {
    let Cell {
        queue,
        kind,
        owner,
        key,
    } = cell;
    let clean = |text: &str| text.replace('\u{1f}', " ");
    let key = key.as_deref().map(clean).unwrap_or_default();
    let (queue, kind, owner) = (clean(queue), clean(kind), clean(owner));
    format!("{queue}\u{1f}{kind}\u{1f}{owner}\u{1f}{key}")
}

/// A number as the scripts have it: of jobs that wait since the same moment the lower number goes first, and Redis compares
/// those as texts.
fn text(seq: i64) -> String {
    format!("{seq:013}")
}

fn texts(seqs: &[i64]) -> Vec<String> {
    seqs.iter().copied().map(text).collect()
}

#[async_trait]
impl Queue for RedisQueue {
    /// Nobody waits for Redis to have them: the database has.
    async fn announce(&self, entries: &[Entry]) {
        // It ends with the queue alone.
        let _ = self.hand_in(entries, None);
    }

    async fn fill(&self, entries: &[Entry]) -> Result<(), Away> {
        self.announced(entries).await?;
        if self.filling.load(Ordering::Relaxed) {
            let args = vec![self.me.clone(), FILL_S.to_string()];
            self.scripts.run::<i64>(&self.scripts.filling, args).await?;
        }
        Ok(())
    }

    async fn withdraw(&self, seqs: &[i64]) {
        if seqs.is_empty() {
            return;
        }
        // They may still be on their way there. A job that stays in the index is refused when it is claimed.
        let _ = timeout(BEHIND, self.announced(&[])).await;
        let _ = self.scripts.run::<i64>(&self.scripts.withdraw, texts(seqs)).await;
    }

    async fn take(&self, max: usize, suspect: bool, rests: &AtomicBool) -> Result<Vec<i64>, Away> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let look = async || {
            let found = self.look(max, suspect).await;
            // What can't be asked is not known to be empty.
            rests.store(found.as_ref().is_ok_and(|(_, rests)| *rests), Ordering::Relaxed);
            found.map(|(seqs, _)| seqs)
        };
        let seqs = look().await?;
        if !seqs.is_empty() {
            return Ok(seqs);
        }
        {
            let _waits = Waits::one_more(&self.waiting);
            tokio::select! {
                came = self.something_came() => came.inspect_err(|_| rests.store(false, Ordering::Relaxed))?,
                () = self.on_its_way.notified() => {}
            }
        }
        look().await
    }

    async fn take_turn(&self, lane: u8, cell: &Cell) -> Result<bool, Away> {
        let asked = async {
            // Behind what this process has told of before: its owner's older jobs go first.
            if self.behind.load(Ordering::SeqCst) > 0 {
                self.announced(&[]).await?;
            }
            let args = vec![lane.to_string(), cell_text(cell)];
            Ok(self.scripts.run::<i64>(&self.scripts.turn, args).await? == 1)
        };
        timeout(self.soon, asked).await.unwrap_or(Err(Away))
    }

    async fn settle(&self, seqs: &[i64]) {
        // What stays is swept after its deadline, and refused when it is claimed again.
        let _ = self.scripts.run::<i64>(&self.scripts.settle, texts(seqs)).await;
    }

    async fn give_back(&self, seqs: &[i64]) {
        self.scripts.give_back(seqs).await;
    }

    async fn hold(&self, hold: &Hold, ms: i64) {
        // Without the hold its jobs are refused one by one.
        let _ = self
            .scripts
            .run::<i64>(&self.scripts.hold, vec![hold.to_string(), ms.to_string()])
            .await;
    }

    async fn release(&self, hold: &Hold, places: u32) {
        // The hold ends by itself.
        let _ = self
            .scripts
            .run::<i64>(&self.scripts.release, vec![hold.to_string(), places.to_string()])
            .await;
    }

    async fn waiting(&self) -> Result<usize, Away> {
        self.scripts.run::<usize>(&self.scripts.waiting, Vec::new()).await
    }

    async fn must_rebuild(&self) -> Result<bool, Away> {
        if !self.scripts.link.is_up() {
            return Err(Away);
        }
        let link = &self.scripts.link;
        let marker = link.client.get::<Option<String>, _>(link.key("marker"));
        if link.asked(marker).await.ok_or(Away)?.is_some() {
            return Ok(false);
        }
        let claim = link.client.set::<Option<String>, _, _>(
            link.key("filling"),
            self.me.clone(),
            Some(Expiration::EX(FILL_S)),
            Some(SetOptions::NX),
            false,
        );
        let mine = match link.asked(claim).await.ok_or(Away)? {
            Some(_) => true,
            // One's own try that failed half-way is no reason to wait.
            None => {
                let args = vec![self.me.clone(), FILL_S.to_string()];
                self.scripts.run::<i64>(&self.scripts.filling, args).await? == 1
            }
        };
        self.filling.store(mine, Ordering::Relaxed);
        Ok(mine)
    }

    async fn rebuilt(&self) -> Result<bool, Away> {
        self.filling.store(false, Ordering::Relaxed);
        let args = vec![self.me.clone()];
        // Without the marker another look finds the index doubtful, and fills it again.
        Ok(self.scripts.run::<i64>(&self.scripts.filled, args).await? == 1)
    }

    async fn sweep(&self) -> Result<usize, Away> {
        let mut swept = 0;
        loop {
            match self.scripts.run::<usize>(&self.scripts.give_back, Vec::new()).await? {
                0 => return Ok(swept),
                n => swept += n,
            }
        }
    }

    async fn doubted(&self) -> bool {
        tokio::select! {
            () = self.scripts.link.back.notified() => true,
            () = self.scripts.emptied.notified() => false,
        }
    }

    fn due_hint(&self) {
        self.due.notify_one();
    }

    async fn due_changed(&self) {
        self.due.notified().await;
    }

    async fn close(&self) {
        // What can't be told any more is found by the reconciler.
        let _ = timeout(PATIENCE, self.announced(&[])).await;
        self.scripts.link.close().await;
    }

    fn health(&self) -> Result<&'static str, &'static str> {
        match self.scripts.link.is_up() {
            true => Ok("Redis"),
            false => Err("Redis does not answer"),
        }
    }
}
