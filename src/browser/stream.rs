//! Server-Sent Events.

use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Event, EventSource, MessageEvent};

/// An open stream of events; dropping it closes it and silences its callbacks.
pub struct Stream {
    _inner: SendWrapper<Inner>,
}

struct Inner {
    source: EventSource,
    _open: Closure<dyn Fn(Event)>,
    _error: Closure<dyn Fn(Event)>,
    _message: Closure<dyn Fn(MessageEvent)>,
}

/// What happened to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Opened,
    /// The browser is trying again by itself.
    Retrying,
    /// The browser has given up: only a new stream helps.
    Closed,
}

/// Opens the stream at `url`. `on_event` gets the name, the data and the id of each event that has one of `names`.
pub fn open(
    url: &str,
    names: &'static [&'static str],
    on_event: impl Fn(&str, String, String) + 'static,
    on_change: impl Fn(Change) + Clone + 'static,
) -> Option<Stream> {
    let source = EventSource::new(url).ok()?;
    let opened = on_change.clone();
    let open = Closure::<dyn Fn(Event)>::new(move |_| opened(Change::Opened));
    let watched = source.clone();
    let error = Closure::<dyn Fn(Event)>::new(move |_| {
        on_change(match watched.ready_state() {
            EventSource::CLOSED => Change::Closed,
            _ => Change::Retrying,
        });
    });
    let message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        if let Some(data) = event.data().as_string() {
            on_event(&event.type_(), data, event.last_event_id());
        }
    });
    source.set_onopen(Some(open.as_ref().unchecked_ref()));
    source.set_onerror(Some(error.as_ref().unchecked_ref()));
    for name in names {
        let _ = source.add_event_listener_with_callback(name, message.as_ref().unchecked_ref());
    }
    let _inner = SendWrapper::new(Inner {
        source,
        _open: open,
        _error: error,
        _message: message,
    });
    Some(Stream { _inner })
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A closed source fires nothing more, so its closures can go.
        self.source.set_onopen(None);
        self.source.set_onerror(None);
        self.source.close();
    }
}
