//! control

pub mod underlay;
