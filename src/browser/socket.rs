//! A WebSocket that brings text.

use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Event, MessageEvent, WebSocket};

/// An open or opening WebSocket; dropping it closes it and silences its callbacks.
pub struct Socket {
    _inner: SendWrapper<Inner>,
}

struct Inner {
    socket: WebSocket,
    _message: Closure<dyn Fn(MessageEvent)>,
    _open: Closure<dyn Fn(Event)>,
    _close: Closure<dyn Fn(Event)>,
}

/// Opens a WebSocket to `url` (absolute, or a path on this server). `on_message` gets each text frame; `on_close` is
/// called once, with whether the server closed it in order, and also when it never opened.
pub fn open(
    url: &str,
    on_open: impl Fn() + 'static,
    on_message: impl Fn(String) + 'static,
    on_close: impl Fn(bool) + 'static,
) -> Option<Socket> {
    let url = if url.starts_with('/') {
        format!("{}{url}", super::socket_origin())
    } else {
        url.to_string()
    };
    let socket = WebSocket::new(&url).ok()?;
    let open = Closure::<dyn Fn(Event)>::new(move |_| on_open());
    let message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        if let Some(text) = event.data().as_string() {
            on_message(text);
        }
    });
    let close = Closure::<dyn Fn(Event)>::new(move |event: Event| {
        let clean = js_sys::Reflect::get(&event, &"wasClean".into())
            .ok()
            .and_then(|v| v.as_bool());
        on_close(clean.unwrap_or(false));
    });
    socket.set_onopen(Some(open.as_ref().unchecked_ref()));
    socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
    socket.set_onclose(Some(close.as_ref().unchecked_ref()));
    let _inner = SendWrapper::new(Inner {
        socket,
        _message: message,
        _open: open,
        _close: close,
    });
    Some(Socket { _inner })
}

impl Socket {
    /// Closes it; `on_close` is not called.
    pub fn close(self) {}
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        if self.socket.ready_state() == WebSocket::CONNECTING {
            // Browsers put a warning on the console about a socket that is closed before it opened: let it open first.
            let socket = self.socket.clone();
            let close = Closure::once_into_js(move || {
                let _ = socket.close();
            });
            self.socket.set_onopen(Some(close.unchecked_ref()));
        } else {
            let _ = self.socket.close();
        }
    }
}
