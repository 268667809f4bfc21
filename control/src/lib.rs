//! The control plane of vtepd: configuration, control socket, underlay resolution, BGP EVPN, and
//! the engine that builds the FIB from them.

#![forbid(unsafe_code)]

pub mod api;
pub mod background;
pub mod bgp;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod evpn;
pub mod fib;
pub mod handler;
pub mod interfaces;
pub mod iteration;
pub mod metrics;
mod notices;
pub mod rib;
pub mod show;
pub mod speaker;
pub mod underlay;
pub mod workers;
