//! The pages, one folder or file each.

pub mod account;
pub mod audit;
pub mod jobs;
pub mod not_found;
pub mod settings;
pub mod sign_in;
pub mod users;
pub mod welcome;
