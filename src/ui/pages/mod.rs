//! The pages, one folder or file each.

pub mod jobs;
pub mod not_found;
