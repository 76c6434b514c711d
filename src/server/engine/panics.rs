//! Where a panic happened: a panic in a job is an error of that job, and its people want to see the stack.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::sync::Once;

use tokio::task::futures::TaskLocalFuture;

use crate::server::secrets::Veil;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

tokio::task_local! {
    /// What the attempt that runs here may not say.
    static VEIL: Veil;
}

/// Runs an attempt's code: what a panic in it says is said without its secrets.
pub(super) fn veiled<F: Future>(veil: Veil, attempt: F) -> TaskLocalFuture<Veil, F> {
    VEIL.scope(veil, attempt)
}

/// The same for its blocking parts.
pub(super) fn veiled_here<T>(veil: Veil, f: impl FnOnce() -> T) -> T {
    VEIL.sync_scope(veil, f)
}

/// Keeps place and stack of each panic on its thread, besides what the process does about panics anyway. Those of jobs go to
/// the log instead, without the jobs' secrets.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let stack = format!("at {place}\n{}", Backtrace::force_capture());
            LAST.with(|last| *last.borrow_mut() = Some(stack));
            match VEIL.try_with(|veil| veil.text(message(info.payload()))) {
                Ok(said) => tracing::error!(place, said, "a job panicked"),
                Err(_) => before(info),
            }
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
