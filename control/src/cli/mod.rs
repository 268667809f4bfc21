//! `vtepctl`: words in, calls to the daemon, tables or JSON out.

mod args;
mod bgp_args;
mod bgp_render;
mod render;
mod run;
mod table;

pub use args::{Cli, Command};
pub use run::{Failure, run};
