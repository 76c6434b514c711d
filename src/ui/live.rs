//! The one stream of live events: every tab opens it once, and every component that shows something live subscribes.
//! A tab has one thread, so what belongs to the tab lives in a thread-local; the server never touches it.

use std::cell::RefCell;
use std::rc::Rc;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::shell::RenderedAt;
use super::signed::lead_to_sign_in;
use crate::browser::{self, Listener, Timer, stream};
use crate::domain::live::LiveEvent;
use crate::domain::stats::Overview;
use crate::domain::time::Timestamp;
use crate::rpc;

/// How the stream fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    Connecting,
    Live,
    /// With the number of the try.
    Reconnecting(u32),
    /// Closed on purpose: nobody looks at the page.
    Offline,
}

/// Longest wait between two tries, in milliseconds.
const WAIT_MAX: u32 = 15_000;
/// A page that was hidden for so many milliseconds stops listening.
const HIDDEN_MS: u32 = 30_000;
/// At most one request to fetch everything again in so many milliseconds.
const STALE_MS: i64 = 2_000;

type Subscriber = Rc<dyn Fn(&LiveEvent)>;

/// What the tab holds besides signals.
#[derive(Default)]
struct Tab {
    subscribers: Vec<(u32, Subscriber)>,
    next: u32,
    stream: Option<stream::Stream>,
    /// The id of the last event.
    cursor: String,
    tries: u32,
    retry: Option<Timer>,
    hide: Option<Timer>,
    clock: Option<Timer>,
    stale: Option<Timer>,
    stale_at: i64,
    _visibility: Option<Listener>,
}

thread_local! {
    static TAB: RefCell<Tab> = RefCell::default();
}

fn tab<R>(f: impl FnOnce(&mut Tab) -> R) -> R {
    TAB.with(|t| f(&mut t.borrow_mut()))
}

/// What is live on every page. Provided by the app.
#[derive(Clone, Copy)]
pub struct Live {
    /// The newest counts and health that the stream has brought; none before the first.
    pub overview: RwSignal<Option<Overview>>,
    pub connection: RwSignal<Connection>,
    /// The server's clock: the moment of rendering at first, then ticking once a second in the browser.
    pub now: RwSignal<Timestamp>,
    /// Milliseconds that the server's clock is ahead of the browser's.
    ahead: StoredValue<i64>,
}

impl Live {
    /// Makes it and provides it to everything below the caller. Called once, by the app.
    pub fn provide() -> Self {
        let rendered = use_context::<RenderedAt>().map(|r| r.0).or_else(browser::rendered_at);
        let live = Self {
            overview: RwSignal::new(None),
            connection: RwSignal::new(Connection::Connecting),
            now: RwSignal::new(rendered.unwrap_or_else(browser::now)),
            ahead: StoredValue::new(0),
        };
        provide_context(live);
        live
    }

    /// Starts the clock and the stream once the page is alive. Called by the frame: pages for people who are not signed in
    /// have neither.
    pub fn begin(self) {
        Effect::new(move |_| {
            if tab(|t| t.clock.is_none()) {
                self.start();
            }
        });
    }

    /// The app's.
    pub fn expect() -> Self {
        use_context().unwrap_or_else(Self::provide)
    }

    /// Calls `f` with each event from now on, until the calling component is gone. Does nothing on the server.
    pub fn subscribe(&self, f: impl Fn(&LiveEvent) + 'static) {
        let f: Subscriber = Rc::new(f);
        Effect::new(move |_| {
            let f = f.clone();
            let id = tab(|t| {
                t.next += 1;
                t.subscribers.push((t.next, f));
                t.next
            });
            on_cleanup(move || tab(|t| t.subscribers.retain(|(n, _)| *n != id)));
        });
    }

    /// Has every subscriber fetch again what it shows, and the overview too.
    pub fn refresh(&self) {
        publish(&LiveEvent::Stale);
        let overview = self.overview;
        spawn_local(async move {
            if let Ok(fresh) = rpc::overview().await.inspect_err(lead_to_sign_in) {
                overview.try_set(Some(fresh));
            }
        });
    }

    /// Tries at once to connect, for people who don't want to wait.
    pub fn reconnect(&self) {
        tab(|t| {
            t.retry = None;
            t.stream = None;
            t.tries = 0;
        });
        self.connection.set(Connection::Reconnecting(1));
        self.connect();
    }

    fn start(self) {
        // A page out of the history may have been rendered long ago; the first overview sets the clock right.
        let behind = (self.now.get_untracked() - browser::now()).num_milliseconds();
        self.ahead.set_value(if behind.abs() < 60_000 { behind } else { 0 });
        let clock = browser::every(1_000, move || self.tick());
        let visibility = browser::on_visibility(move |hidden| self.visibility(hidden));
        tab(|t| {
            t.clock = Some(clock);
            t._visibility = Some(visibility);
        });
        self.tick();
        if !browser::document_hidden() {
            self.connect();
        }
    }

    fn tick(self) {
        if !browser::document_hidden() {
            let ahead = self.ahead.try_get_value().unwrap_or_default();
            self.now
                .try_set(browser::now() + chrono::TimeDelta::milliseconds(ahead));
        }
    }

    fn visibility(self, hidden: bool) {
        if hidden {
            let hide = browser::after(HIDDEN_MS, move || {
                tab(|t| {
                    t.stream = None;
                    t.retry = None;
                });
                self.connection.set(Connection::Offline);
            });
            tab(|t| t.hide = Some(hide));
        } else {
            tab(|t| t.hide = None);
            self.tick();
            if self.connection.get_untracked() != Connection::Live && tab(|t| t.stream.is_none()) {
                self.reconnect();
            }
        }
    }

    fn connect(self) {
        let cursor = tab(|t| t.cursor.clone());
        let query = serde_urlencoded::to_string([("after", &cursor)]).unwrap_or_default();
        let url = if cursor.is_empty() {
            "/api/jobs/events".into()
        } else {
            format!("/api/jobs/events?{query}")
        };
        let opened = stream::open(
            &url,
            &LiveEvent::NAMES,
            move |name, data, id| self.arrived(name, &data, id),
            move |change| self.changed(change),
        );
        if opened.is_none() {
            self.changed(stream::Change::Closed);
        }
        tab(|t| t.stream = opened);
    }

    fn changed(self, change: stream::Change) {
        match change {
            stream::Change::Opened => {
                let first = tab(|t| {
                    t.tries = 0;
                    t.retry = None;
                    t.cursor.is_empty()
                });
                self.connection.set(Connection::Live);
                if first {
                    // Without a cursor nobody knows what happened between the rendering and now.
                    self.stale();
                }
            }
            stream::Change::Retrying => {
                let tries = tab(|t| {
                    t.tries += 1;
                    t.tries
                });
                self.connection.set(Connection::Reconnecting(tries));
            }
            stream::Change::Closed => {
                let tries = tab(|t| {
                    t.tries += 1;
                    t.tries
                });
                self.connection.set(Connection::Reconnecting(tries));
                // A stream doesn't say why it was refused; a call does.
                spawn_local(async {
                    let _ = rpc::me().await.inspect_err(lead_to_sign_in);
                });
                let wait = (500 << tries.min(6)).min(WAIT_MAX);
                let jitter = 0.5 + browser::random() * 0.5;
                // The stream can't be dropped here: this is one of its own callbacks.
                let retry = browser::after((f64::from(wait) * jitter) as u32, move || {
                    tab(|t| t.stream = None);
                    self.connect();
                });
                tab(|t| t.retry = Some(retry));
            }
        }
    }

    fn arrived(self, name: &str, data: &str, id: String) {
        if !id.is_empty() {
            tab(|t| t.cursor = id);
        }
        let event = match name {
            "jobs" => serde_json::from_str(data).ok().map(LiveEvent::Jobs),
            "removed" => serde_json::from_str(data).ok().map(LiveEvent::Removed),
            "overview" => serde_json::from_str(data).ok().map(LiveEvent::Overview),
            _ => Some(LiveEvent::Stale),
        };
        match event {
            Some(LiveEvent::Overview(overview)) => {
                self.ahead.set_value((overview.at - browser::now()).num_milliseconds());
                publish(&LiveEvent::Overview(overview.clone()));
                self.overview.set(Some(*overview));
            }
            Some(LiveEvent::Stale) => self.stale(),
            Some(event) => publish(&event),
            // A newer server says something that this page doesn't understand.
            None => self.stale(),
        }
    }

    /// Tells the subscribers to fetch again: at once, or when the last time is long enough ago.
    fn stale(self) {
        let now = browser::now().timestamp_millis();
        let wait = tab(|t| t.stale_at + STALE_MS - now);
        if wait <= 0 {
            tab(|t| t.stale_at = now);
            self.refresh();
        } else if tab(|t| t.stale.is_none()) {
            let timer = browser::after(u32::try_from(wait).unwrap_or(2_000), move || {
                tab(|t| {
                    t.stale_at = browser::now().timestamp_millis();
                    t.stale = None;
                });
                self.refresh();
            });
            tab(|t| t.stale = Some(timer));
        }
    }
}

/// Calls the subscribers. They may subscribe and unsubscribe meanwhile.
fn publish(event: &LiveEvent) {
    let subscribers: Vec<Subscriber> = tab(|t| t.subscribers.iter().map(|(_, f)| f.clone()).collect());
    for f in subscribers {
        f(event);
    }
}
