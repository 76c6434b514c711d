//! The REST API, a file a subject. Each handler reads the request, asks the service, writes the answer.

pub mod actions;
pub mod artifacts;
pub mod audit_file;
pub mod batches;
pub mod bulk;
pub mod events;
pub mod identity;
pub mod jobs;
pub mod logs;
pub mod queues;
pub mod schedules;
pub mod settings;
pub mod workers;
