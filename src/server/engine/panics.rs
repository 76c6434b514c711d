//! Where a panic happened: a panic in a job is an error of that job, and its people want to see the stack.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps place and stack of each panic on its thread, besides what the process does about panics anyway.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let stack = format!("at {place}\n{}", Backtrace::force_capture());
            LAST.with(|last| *last.borrow_mut() = Some(stack));
            before(info);
        }));
    });
}

/// Place and stack of the last panic on this thread.
pub(super) fn take() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}

/// What a panic said.
pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
