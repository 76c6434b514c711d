//! What Windlass talks about: pure types and rules, compiled for the server and for the browser alike.

pub mod account;
pub mod audit;
pub mod batch;
pub mod bulk;
pub mod error;
pub mod event;
pub mod facets;
pub mod filter;
pub mod groups;
pub mod job;
pub mod kind;
pub mod live;
pub mod log;
pub mod machine;
pub mod network;
pub mod page;
pub mod queue;
pub mod retention;
pub mod schedule;
pub mod secret;
pub mod setting;
pub mod stats;
pub mod status;
pub mod time;
pub mod user;
pub mod worker;
