//! The control socket: JSON-RPC 2.0 over a Unix stream socket, one object, or one array that is one
//! transaction, per line.
//!
//! ```text
//! client -> server (access, limits) -> connection (bytes)
//!        -> message (typed requests) -> dispatch -> Handler (the daemon)
//! ```

pub mod access;
pub mod action;
pub mod bgp;
pub mod client;
mod connection;
mod cursor;
pub mod dispatch;
pub mod event;
pub mod interface;
pub mod message;
pub mod port;
mod serde_form;
pub mod server;
pub mod show;
