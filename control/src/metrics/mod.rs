//! Metrics for Prometheus: what `show` reads, as text that a scraper takes over HTTP.
//!
//! ```text
//! engine::metrics (the workers' counters, tables, sessions) -> Page -> text -> MetricsServer (HTTP on mio) -> scraper
//! ```
//!
//! The page costs the control thread a walk over ports, VNIs and VTEPs, at most [`MAX_ROWS`] of each, and is made at most
//! once a second however many ask. The packet path only counts, as it does without scrapers.

mod page;
mod server;

pub use self::page::{Labels, MAX_ROWS, PageBuilder};
pub use self::server::{MAX_SCRAPERS, MetricsServer, TOKENS};
