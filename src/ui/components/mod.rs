//! What pages are made of. One component a file; none knows a page.

pub mod badge;
pub mod copy;
pub mod dialog;
pub mod empty;
pub mod entries_skeleton;
pub mod form;
pub mod icon;
pub mod inputs;
pub mod json;
pub mod mark;
pub mod once;
pub mod progress;
pub mod refused;
pub mod time;
pub mod toast;
pub mod virtual_list;

pub use badge::{StatusBadge, StatusIcon};
pub use copy::CopyButton;
pub use dialog::ConfirmDialog;
pub use icon::Icon;
pub use json::JsonView;
pub use progress::ProgressBar;
pub use time::RelativeTime;
