//! Long lists of which only what can be seen is in the page.

use leptos::html::{Div, ElementType};
use leptos::prelude::*;
use leptos::wasm_bindgen::JsCast;
use leptos::web_sys::{HtmlDivElement, HtmlElement};

use crate::browser;

/// Rows that are rendered above and below those in view, so that scrolling doesn't show gaps.
const OVERSCAN: usize = 10;

/// Which rows of equal height are in view inside a scrolling element.
#[derive(Clone, Copy)]
pub struct Window {
    /// The scrolling element.
    pub node: NodeRef<Div>,
    /// Pixels.
    row: f64,
    /// Pixels scrolled.
    pub top: RwSignal<f64>,
    /// The element's inner height in pixels.
    pub height: RwSignal<f64>,
    observer: StoredValue<Option<browser::Observer>>,
}

impl Window {
    /// For rows of `row` pixels. Until the element is measured it is taken to be `height` pixels high, on the server too.
    pub fn new(row: f64, height: f64) -> Self {
        let window = Self {
            node: NodeRef::new(),
            row,
            top: RwSignal::new(0.0),
            height: RwSignal::new(height),
            observer: StoredValue::new(None),
        };
        Effect::new(move |_| {
            if let Some(element) = window.node.get() {
                window.observe(&element);
            }
        });
        window
    }

    fn observe(self, element: &HtmlDivElement) {
        let observer = browser::on_resize(element, move |height| {
            if self.height.try_get_untracked().is_some_and(|h| h != height) {
                self.height.set(height);
            }
        });
        self.observer.set_value(observer);
        self.top.set(f64::from(element.scroll_top()));
    }

    /// To be called when the element was scrolled.
    pub fn scrolled(self) {
        if let Some(element) = self.node.get_untracked() {
            self.top.set(f64::from(element.scroll_top()));
        }
    }

    /// The rows to render, as first and one past the last.
    pub fn range(self, count: usize) -> (usize, usize) {
        let first = (self.top.get() / self.row) as usize;
        let seen = (self.height.get() / self.row).ceil() as usize + 1;
        let end = first.saturating_add(seen).saturating_add(OVERSCAN).min(count);
        (first.saturating_sub(OVERSCAN).min(end), end)
    }

    /// The first row in view and the pixels of it that are hidden; untracked.
    pub fn anchor(self) -> (usize, f64) {
        let top = self.top.get_untracked();
        let first = (top / self.row).floor();
        (first as usize, top - first * self.row)
    }

    /// Scrolls to `top` pixels after the page has been updated and before it is painted.
    pub fn scroll_to(self, top: f64) {
        self.top.set(top);
        browser::next_frame(move || {
            if let Some(Some(element)) = self.node.try_get_untracked() {
                element.set_scroll_top(top as i32);
            }
        });
    }

    /// Scrolls as little as is needed to bring row `index` wholly into view.
    pub fn reveal(self, index: usize) {
        let (top, height) = (self.top.get_untracked(), self.height.get_untracked());
        let (above, below) = (index as f64 * self.row, (index + 1) as f64 * self.row);
        if above < top {
            self.scroll_to(above);
        } else if below > top + height {
            self.scroll_to(below - height);
        }
    }
}

/// Keeps a CSS property of an element at what `value` says, in the browser: pages carry no style attributes, which the
/// Content-Security-Policy does not let count.
pub fn keep_style<E>(node: NodeRef<E>, property: &'static str, value: impl Fn() -> String + 'static)
where
    E: ElementType + 'static,
    E::Output: AsRef<HtmlElement> + JsCast + Clone + 'static,
{
    Effect::new(move |_| {
        if let Some(element) = node.get() {
            browser::set_style(element.as_ref(), property, &value());
        }
    });
}
