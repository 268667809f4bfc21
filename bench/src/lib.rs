//! vtep-bench: measures what the daemon runs, and says whether it is fast enough.
//!
//! ```text
//! run       rows -> row -> report          rows use the functions of vtep_dataplane, or a testbed with real links
//! generate  traffic::template -> AF_XDP
//! sink      AF_XDP -> traffic::sink
//! ```

pub mod cli;
pub mod clock;
pub mod command;
pub mod machine;
pub mod report;
pub mod row;
pub mod rows;
pub mod tables;
pub mod testbed;
pub mod traffic;
