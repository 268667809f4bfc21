//! `show` reports live state: the workers' own tables and counters, never a copy.

mod bgp;
mod drops;
mod macs;
mod metrics;
mod neighbors;
mod page;
mod ports;
mod status;
mod underlay;
mod vnis;
mod workers;

use std::time::Instant;

use serde_json::Value;
use vtep_dataplane::stats::Totals;

pub use self::metrics::metrics;
use self::ports::port_key;
use self::workers::WorkerSamples;
use crate::api::message::ApiError;
use crate::api::show::{NeighborCursor, Rows, ShowRequest, Traffic};
use crate::engine::Engine;

impl From<Totals> for Traffic {
    fn from(totals: Totals) -> Self {
        Self {
            rx_frames: totals.rx_frames,
            rx_bytes: totals.rx_bytes,
            tx_frames: totals.tx_frames,
            tx_bytes: totals.tx_bytes,
            drops: totals.dropped(),
        }
    }
}

fn to_json<T: serde::Serialize>(rows: Result<T, String>) -> Result<Value, ApiError> {
    let rows = rows.map_err(ApiError::refused)?;
    serde_json::to_value(rows).map_err(|error| ApiError::refused(error.to_string()))
}

/// Answers `show`, and keeps the samples that the next answer needs.
#[derive(Debug, Default)]
pub struct Show {
    samples: WorkerSamples,
}

impl Show {
    /// Answers one request.
    ///
    /// # Errors
    /// When the cursor of the query is invalid, or the neighbor or BGP is not configured.
    pub fn answer(
        &mut self,
        engine: &Engine,
        request: &ShowRequest,
        now: Instant,
    ) -> Result<Value, ApiError> {
        let view = engine.view();
        match request {
            ShowRequest::Status => to_json(Ok(view.status(now))),
            ShowRequest::Vni(query) => {
                to_json(Rows::page(view.vni_rows(query), |row| row.vni, query))
            }
            ShowRequest::Mac(query) => to_json(view.mac_page(query, now)),
            ShowRequest::Flood(query) => {
                to_json(Rows::page(view.flood_rows(query), |row| row.vni, query))
            }
            ShowRequest::Ports(query) => {
                to_json(Rows::page(view.port_rows(query), port_key, query))
            }
            ShowRequest::Workers(query) => {
                let rows = self.samples.rows(view, now);
                to_json(Rows::page(rows, |row| row.id, query))
            }
            ShowRequest::Underlay(query) => to_json(view.underlay_page(now, query)),
            ShowRequest::Drops(query) => to_json(Ok(view.drop_rows(query))),
            ShowRequest::BgpSummary => view.show_bgp_summary(now),
            ShowRequest::BgpNeighbor(peer) => view.show_bgp_neighbor(peer.neighbor, now),
            ShowRequest::BgpRoutes(query) => view.show_bgp_routes(query),
            ShowRequest::Neighbors(query) => to_json(Rows::page(
                view.neighbor_rows(query),
                |row| NeighborCursor(row.vni, row.ip),
                query,
            )),
        }
    }
}
