//! The control side of vtepd: configuration, control socket, underlay resolution.

#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
