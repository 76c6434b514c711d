//! The server's twin of `real.rs`: the same signatures, and nothing happens. Nothing here is called while a page is
//! rendered, except by mistake.

use leptos::web_sys::{Event, KeyboardEvent};

use crate::domain::time::Timestamp;

pub fn now() -> Timestamp {
    chrono::Utc::now()
}

pub fn random() -> f64 {
    0.5
}

pub fn offset_minutes() -> i32 {
    0
}

pub struct Timer;

pub fn after(_ms: u32, _f: impl FnOnce() + 'static) -> Timer {
    Timer
}

pub fn every(_ms: u32, _f: impl FnMut() + 'static) -> Timer {
    Timer
}

pub fn next_frame(_f: impl FnOnce() + 'static) {}

pub struct Listener;

pub fn on_window_event(_name: &'static str, _f: impl Fn(Event) + 'static) -> Listener {
    Listener
}

pub fn on_key(_f: impl Fn(KeyboardEvent) + 'static) -> Listener {
    Listener
}

pub fn on_visibility(_f: impl Fn(bool) + 'static) -> Listener {
    Listener
}

pub fn document_hidden() -> bool {
    false
}

pub fn typing() -> bool {
    false
}

pub fn dialog_open() -> bool {
    false
}

pub fn mark_hydrated() {}

pub fn rendered_at() -> Option<Timestamp> {
    None
}

pub fn theme() -> Option<String> {
    None
}

pub fn on_resize(_element: &leptos::web_sys::Element, _f: impl Fn(f64) + 'static) -> Option<Observer> {
    None
}

pub struct Observer;

pub fn set_style(_element: &leptos::web_sys::HtmlElement, _property: &str, _value: &str) {}

pub fn set_theme(_theme: Option<&'static str>) {}

pub fn copy(_text: String, _done: impl FnOnce(bool) + 'static) {}

pub fn download(_name: &str, _mime: &str, _content: &str) {}

pub fn focus_id(_id: &str) -> bool {
    false
}

pub fn focus_selector(_selector: &str) -> bool {
    false
}

pub fn focus_is_in(_selector: &str) -> bool {
    false
}

pub struct Focused;

pub fn focused() -> Focused {
    Focused
}

impl Focused {
    pub fn restore(&self) {}
}

pub fn here() -> String {
    String::new()
}

pub fn origin() -> String {
    String::new()
}

pub fn leave_for(_url: &str) {}

pub fn socket_origin() -> String {
    String::new()
}

pub mod socket {
    pub struct Socket;

    pub fn open(
        _url: &str,
        _on_open: impl Fn() + 'static,
        _on_message: impl Fn(String) + 'static,
        _on_close: impl Fn(bool) + 'static,
    ) -> Option<Socket> {
        None
    }

    impl Socket {
        pub fn close(self) {}
    }
}

pub mod stream {
    pub struct Stream;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Change {
        Opened,
        Retrying,
        Closed,
    }

    pub fn open(
        _url: &str,
        _names: &'static [&'static str],
        _on_event: impl Fn(&str, String, String) + 'static,
        _on_change: impl Fn(Change) + Clone + 'static,
    ) -> Option<Stream> {
        None
    }
}

pub mod upload {
    use leptos::web_sys::HtmlInputElement;

    pub struct Upload;

    pub fn chosen(_input: &HtmlInputElement) -> Option<(String, u64)> {
        None
    }

    pub fn upload(
        _url: &str,
        _fields: &[(&str, &str)],
        _input: &HtmlInputElement,
        _on_progress: impl Fn(f64) + 'static,
        _on_done: impl FnOnce(Result<String, (u16, String)>) + 'static,
    ) -> Option<Upload> {
        None
    }
}
