//! The pipeline as a whole, frames in and frames out.

mod chain;
mod fixture;
mod flood;
mod neigh_suppress;
mod pmtu;
mod property;
mod tenant_input;
mod vxlan_input;
