//! vtep-bench: measures the code that the daemon runs, and compares the figures with their bars.
//!
//! ```text
//! run       rows -> row -> report          rows call vtep_dataplane, or use a testbed of links
//! generate  traffic::template -> AF_XDP
//! sink      AF_XDP -> traffic::sink
//! ```

pub mod cli;
pub mod clock;
pub mod command;
pub mod cores;
pub mod machine;
pub mod report;
pub mod row;
pub mod rows;
pub mod tables;
pub mod testbed;
pub mod traffic;
