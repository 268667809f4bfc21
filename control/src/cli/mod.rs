//! `vtepctl`: arguments in, requests to the daemon, tables or JSON out.

mod args;
mod render;
mod run;
mod table;

pub use self::args::{Cli, Command};
pub use self::run::{Failure, Outcome, run};
