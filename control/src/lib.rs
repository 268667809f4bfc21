//! The control side of vtepd: configuration, control socket, underlay resolution, and the engine that makes tables of
//! it.

#![forbid(unsafe_code)]

pub mod config;
pub mod underlay;
