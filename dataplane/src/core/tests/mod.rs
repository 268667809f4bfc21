//! The pipeline as a whole, frames in and frames out.

mod bed;
mod chain;
mod vxlan_input;
mod property;
mod flood;
mod neigh_suppress;
mod tenant_input;
mod pmtu;
