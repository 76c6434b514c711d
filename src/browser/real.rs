//! What only a browser can do: timers, listeners, sockets, uploads. Each function has a twin of the same signature in
//! `server.rs` that does nothing. Handles stop what they stand for when they are dropped; keep them in a
//! `StoredValue` (not a local one: the server makes components on one thread and drops them on another).

pub mod socket;
pub mod stream;
pub mod upload;

use leptos::prelude::document;
use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Event, EventTarget, HtmlElement, KeyboardEvent};

use crate::domain::time::{Timestamp, from_millis};

/// The moment by the browser's clock.
pub fn now() -> Timestamp {
    from_millis(js_sys::Date::now() as i64)
}

/// A number in 0..1, for jitter.
pub fn random() -> f64 {
    js_sys::Math::random()
}

/// Minutes to add to UTC for local time now.
pub fn offset_minutes() -> i32 {
    -(js_sys::Date::new_0().get_timezone_offset() as i32)
}

/// A running timer; dropping it stops it.
pub struct Timer {
    _inner: SendWrapper<TimerKind>,
}

enum TimerKind {
    Once { _timeout: gloo_timers::callback::Timeout },
    Every { _interval: gloo_timers::callback::Interval },
}

/// Calls `f` once in `ms` milliseconds.
pub fn after(ms: u32, f: impl FnOnce() + 'static) -> Timer {
    let _timeout = gloo_timers::callback::Timeout::new(ms, f);
    Timer {
        _inner: SendWrapper::new(TimerKind::Once { _timeout }),
    }
}

/// Calls `f` every `ms` milliseconds.
pub fn every(ms: u32, f: impl FnMut() + 'static) -> Timer {
    let _interval = gloo_timers::callback::Interval::new(ms, f);
    Timer {
        _inner: SendWrapper::new(TimerKind::Every { _interval }),
    }
}

/// Calls `f` before the browser paints next.
pub fn next_frame(f: impl FnOnce() + 'static) {
    leptos::prelude::request_animation_frame(f);
}

/// A listener for events; dropping it removes it.
pub struct Listener {
    _inner: SendWrapper<Listening>,
}

struct Listening {
    target: EventTarget,
    name: &'static str,
    call: Closure<dyn Fn(Event)>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self
            .target
            .remove_event_listener_with_callback(self.name, self.call.as_ref().unchecked_ref());
    }
}

fn listen(target: EventTarget, name: &'static str, f: impl Fn(Event) + 'static) -> Listener {
    let call = Closure::<dyn Fn(Event)>::new(f);
    let _ = target.add_event_listener_with_callback(name, call.as_ref().unchecked_ref());
    let _inner = SendWrapper::new(Listening { target, name, call });
    Listener { _inner }
}

/// Calls `f` for each event `name` that reaches the window.
pub fn on_window_event(name: &'static str, f: impl Fn(Event) + 'static) -> Listener {
    listen(leptos::prelude::window().into(), name, f)
}

/// Calls `f` for each key pressed anywhere in the page.
pub fn on_key(f: impl Fn(KeyboardEvent) + 'static) -> Listener {
    listen(document().into(), "keydown", move |event| {
        if let Ok(key) = event.dyn_into::<KeyboardEvent>() {
            f(key);
        }
    })
}

/// Calls `f` with whether the page is hidden, each time that changes.
pub fn on_visibility(f: impl Fn(bool) + 'static) -> Listener {
    listen(document().into(), "visibilitychange", move |_| f(document_hidden()))
}

/// Whether nobody can see the page: another tab is in front, or the window is minimised.
pub fn document_hidden() -> bool {
    document().hidden()
}

/// Whether focus is somewhere where letters are text.
pub fn typing() -> bool {
    document().active_element().is_some_and(|e| {
        let box_to_tick = e.get_attribute("type").is_some_and(|kind| kind == "checkbox");
        !box_to_tick && matches!(e.tag_name().as_str(), "INPUT" | "TEXTAREA" | "SELECT")
            || e.dyn_ref::<HtmlElement>().is_some_and(HtmlElement::is_content_editable)
    })
}

/// Whether a dialog is open: keys then belong to it.
pub fn dialog_open() -> bool {
    document().query_selector("dialog[open]").ok().flatten().is_some()
}

/// Says that the page has come to life, for whoever waits for it.
pub fn mark_hydrated() {
    if let Some(body) = document().body() {
        let _ = body.set_attribute("data-hydrated", "true");
    }
}

/// The moment at which the server rendered this page, as the page says.
pub fn rendered_at() -> Option<Timestamp> {
    let ms = document().document_element()?.get_attribute("data-now")?;
    ms.parse().ok().map(from_millis)
}

/// The theme that the page is shown in: "light", "dark", or none for the system's.
pub fn theme() -> Option<String> {
    document().document_element()?.get_attribute("data-theme")
}

/// Calls `f` with `element`'s inner height in pixels, now and whenever its size changes.
pub fn on_resize(element: &web_sys::Element, f: impl Fn(f64) + 'static) -> Option<Observer> {
    let watched = element.clone();
    let call = Closure::<dyn Fn()>::new(move || f(f64::from(watched.client_height())));
    let observer = web_sys::ResizeObserver::new(call.as_ref().unchecked_ref()).ok()?;
    observer.observe(element);
    Some(Observer {
        _inner: SendWrapper::new(Observing { observer, _call: call }),
    })
}

/// Watches an element's size; dropping it ends that.
pub struct Observer {
    _inner: SendWrapper<Observing>,
}

struct Observing {
    observer: web_sys::ResizeObserver,
    _call: Closure<dyn Fn()>,
}

impl Drop for Observing {
    fn drop(&mut self) {
        self.observer.disconnect();
    }
}

/// Sets one CSS property of `element`.
pub fn set_style(element: &web_sys::HtmlElement, property: &str, value: &str) {
    // An error means that the element can't be styled: it is as it was then.
    let _ = element.style().set_property(property, value);
}

/// Shows `theme` ("light", "dark"; absent: the system's) and remembers it for a year.
pub fn set_theme(theme: Option<&'static str>) {
    if let Some(root) = document().document_element() {
        let _ = match theme {
            Some(t) => root.set_attribute("data-theme", t),
            None => root.remove_attribute("data-theme"),
        };
    }
    let (value, age) = theme.map_or(("", 0), |t| (t, 31_536_000));
    set_cookie(&format!("theme={value}; Path=/; Max-Age={age}; SameSite=Lax"));
}

fn set_cookie(cookie: &str) {
    let name = wasm_bindgen::JsValue::from_str("cookie");
    let _ = js_sys::Reflect::set(&document(), &name, &cookie.into());
}

/// Puts `text` on the clipboard and tells `done` whether that went well.
pub fn copy(text: String, done: impl FnOnce(bool) + 'static) {
    // Absent on pages that are not served securely; loopback counts as secure.
    let navigator: wasm_bindgen::JsValue = leptos::prelude::window().navigator().into();
    let clipboard = js_sys::Reflect::get(&navigator, &"clipboard".into())
        .ok()
        .and_then(|c| c.dyn_into::<web_sys::Clipboard>().ok());
    let Some(clipboard) = clipboard else {
        return done(false);
    };
    wasm_bindgen_futures::spawn_local(async move {
        done(
            wasm_bindgen_futures::JsFuture::from(clipboard.write_text(&text))
                .await
                .is_ok(),
        );
    });
}

/// Saves `content` as a file named `name`.
pub fn download(name: &str, mime: &str, content: &str) {
    let parts = js_sys::Array::of1(&content.into());
    let options = web_sys::BlobPropertyBag::new();
    options.set_type(mime);
    let Ok(blob) = web_sys::Blob::new_with_str_sequence_and_options(&parts, &options) else {
        return;
    };
    let Ok(url) = web_sys::Url::create_object_url_with_blob(&blob) else {
        return;
    };
    if let Ok(anchor) = document().create_element("a")
        && let Ok(anchor) = anchor.dyn_into::<web_sys::HtmlAnchorElement>()
    {
        anchor.set_href(&url);
        anchor.set_download(name);
        anchor.click();
    }
    let _ = web_sys::Url::revoke_object_url(&url);
}

/// Moves focus to the element with this id; whether there is one.
pub fn focus_id(id: &str) -> bool {
    let element = document()
        .get_element_by_id(id)
        .and_then(|e| e.dyn_into::<HtmlElement>().ok());
    element.is_some_and(|e| e.focus().is_ok())
}

/// Moves focus to the first element that `selector` finds; whether there is one.
pub fn focus_selector(selector: &str) -> bool {
    let element = document().query_selector(selector).ok().flatten();
    element
        .and_then(|e| e.dyn_into::<HtmlElement>().ok())
        .is_some_and(|e| e.focus().is_ok())
}

/// Whether the focus is in such an element, or nowhere.
pub fn focus_is_in(selector: &str) -> bool {
    document()
        .active_element()
        .is_none_or(|e| e.tag_name() == "BODY" || e.closest(selector).ok().flatten().is_some())
}

/// What has the focus now, to give it back later.
pub struct Focused(SendWrapper<Option<HtmlElement>>);

pub fn focused() -> Focused {
    Focused(SendWrapper::new(
        document().active_element().and_then(|e| e.dyn_into().ok()),
    ))
}

impl Focused {
    /// Gives the focus back, if the element is still in the page.
    pub fn restore(&self) {
        if let Some(element) = self.0.as_ref().filter(|e| e.is_connected()) {
            let _ = element.focus();
        }
    }
}

/// The address of the page on this server: path and query.
pub fn here() -> String {
    let location = leptos::prelude::window().location();
    let part = |text: Result<String, wasm_bindgen::JsValue>| text.unwrap_or_default();
    format!("{}{}", part(location.pathname()), part(location.search()))
}

/// The page's origin: `http://127.0.0.1:3000`.
pub fn origin() -> String {
    leptos::prelude::window().location().origin().unwrap_or_default()
}

/// Leaves this page for another, which is loaded from the server as a whole.
pub fn leave_for(url: &str) {
    let _ = leptos::prelude::window().location().assign(url);
}

/// The page's origin with the WebSocket scheme: `ws://127.0.0.1:3000`.
pub fn socket_origin() -> String {
    let location = leptos::prelude::window().location();
    let secure = location.protocol().is_ok_and(|p| p == "https:");
    let host = location.host().unwrap_or_default();
    format!("{}://{host}", if secure { "wss" } else { "ws" })
}
