//! Metrics for Prometheus: the values of `show` as OpenMetrics text over HTTP.
//!
//! ```text
//! show::metrics (worker counters, tables, sessions) -> PageBuilder -> text
//!     -> MetricsServer (HTTP on mio) -> scraper
//! ```
//!
//! To build a page, the control thread iterates over at most [`MAX_ROWS`] ports, VNIs and VTEPs
//! each, at most once per second regardless of the number of requests, and one metric family of all
//! of them in a turn. The packet path does no extra work.

mod page;
mod server;

pub use self::page::{Labels, MAX_ROWS, PageBuilder};
pub use self::server::{MAX_SCRAPERS, MetricsServer, Parts, TOKENS};
