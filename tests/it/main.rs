//! One binary for HTTP, store, queue and engine: each test starts a server of its own on a free port and an empty folder.

mod api;
mod audit;
mod batches;
mod chains;
mod chaos;
mod checkpoints;
mod crash;
mod engine;
mod files;
mod fuzz;
mod hardening;
mod harness;
mod hostile;
mod identity;
mod limits;
mod live;
mod members;
mod model;
mod oidc;
mod permissions;
mod queue;
mod retention;
mod rules;
mod schedules;
mod search;
mod secrets;
