//! control
#![forbid(unsafe_code)]

pub mod bgp;
