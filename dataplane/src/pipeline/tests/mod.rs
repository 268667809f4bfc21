//! The pipeline as a whole, frames in and frames out.
mod chain;
mod fixture;
mod flood;
mod gro;
mod gro_cases;
mod limits;
mod neigh_suppress;
mod overlay_gro;
mod pmtu;
mod property;
mod runs;
mod snapshots;
mod superframe;
mod tenant_input;
mod vxlan_input;
