//! `show` reports live state: the workers' own tables and counters, never a copy.

mod bgp;
mod drops;
mod iterations;
mod macs;
mod metrics;
mod metrics_bgp;
mod neighbors;
mod portion;
mod ports;
mod routes;
mod segments;
mod status;
mod underlay;
mod vnis;
mod workers;

use std::time::Instant;

use serde::Serialize;
use vtep_dataplane::stats::Totals;

use self::macs::MacPass;
pub use self::metrics::metrics;
use self::neighbors::NeighborPass;
use self::portion::{PageText, Portion};
use self::routes::{CountPass, RoutePass};
use self::workers::WorkerSamples;
use crate::api::bgp::SegmentRow;
use crate::api::message::ApiError;
use crate::api::show::{Rows, ShowQuery, ShowRequest, Traffic};
use crate::config::ChangeError;
use crate::engine::{Engine, EngineView};

/// How far an answer is; [`Self::Start`] at first.
#[derive(Debug, Default)]
pub enum ShowProgress {
    /// Nothing is done yet.
    #[default]
    Start,
    /// `show.mac`.
    Macs(MacPass),
    /// `show.neighbors`.
    Neighbors(NeighborPass),
    /// `show.bgp.routes`.
    Routes(RoutePass),
    /// `show.bgp.summary` and `show.bgp.neighbor`.
    Counts(CountPass),
    /// A table that is read from a cursor on.
    Table(TablePass),
}

/// How far a page is of a table that is read from a cursor on.
#[derive(Debug, Default)]
pub struct TablePass {
    page: PageText,
    /// The cursor of the next row, once there are rows.
    after: Option<String>,
}

/// Rows of a table that are read at once.
const ROWS: usize = 128;

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

/// The query of a table.
const fn query_of(request: &ShowRequest) -> Option<&ShowQuery> {
    match request {
        ShowRequest::Status | ShowRequest::BgpSummary | ShowRequest::BgpNeighbor(_) => None,
        ShowRequest::Vni(query)
        | ShowRequest::Mac(query)
        | ShowRequest::Flood(query)
        | ShowRequest::Ports(query)
        | ShowRequest::Workers(query)
        | ShowRequest::Underlay(query)
        | ShowRequest::Drops(query)
        | ShowRequest::Neighbors(query)
        | ShowRequest::BgpRoutes(query)
        | ShowRequest::BgpSegments(query) => Some(query),
    }
}

impl EngineView<'_> {
    /// Refuses a query for a VNI that is not configured: an empty table would pass for an answer.
    /// Routes are kept, and shown, for VNIs that are not configured too.
    fn check_query(&self, request: &ShowRequest, query: &ShowQuery) -> Result<(), ApiError> {
        let configured = |vni| self.config.vnis().contains_key(&vni);
        match query.vni {
            Some(vni) if !configured(vni) && !matches!(request, ShowRequest::BgpRoutes(_)) => {
                Err(ApiError::refused(ChangeError::NoVni(vni).to_string()))
            }
            _ => Ok(()),
        }
    }
}

fn to_json<T: Serialize>(rows: Result<T, String>) -> Result<String, ApiError> {
    let rows = rows.map_err(ApiError::refused)?;
    serde_json::to_string(&rows).map_err(|error| ApiError::refused(error.to_string()))
}

impl TablePass {
    /// Adds rows. Returns whether more follow.
    fn add<T: Serialize>(&mut self, rows: Result<Rows<T>, String>) -> Result<bool, ApiError> {
        let Rows { rows, next } = rows.map_err(ApiError::refused)?;
        for row in &rows {
            self.page.push(row)?;
        }
        self.after = next;
        Ok(self.after.is_some())
    }
}

/// Answers `show`, and keeps the samples that the next answer needs.
#[derive(Debug, Default)]
pub struct Show {
    samples: WorkerSamples,
}

impl Show {
    /// Answers one request. `None`: to be continued with the same `progress`.
    ///
    /// Errors: when the cursor of the query is invalid, or the neighbor or BGP is not configured.
    pub fn answer(
        &mut self,
        engine: &Engine,
        request: &ShowRequest,
        progress: &mut ShowProgress,
        now: Instant,
    ) -> Option<Result<String, ApiError>> {
        let view = engine.view();
        if let ShowProgress::Start = progress {
            let checked = match query_of(request) {
                Some(query) => view.check_query(request, query),
                None => Ok(()),
            };
            match checked.and_then(|()| view.begin(request)) {
                Ok(first) => *progress = first,
                Err(error) => return Some(Err(error)),
            }
        }
        match progress {
            ShowProgress::Start => Some(self.answer_at_once(view, request, now)),
            ShowProgress::Table(pass) => view.continue_table(request, pass, now).transpose(),
            _ => view.resume(request, progress, now),
        }
    }

    /// Answers what has few rows.
    fn answer_at_once(
        &mut self,
        view: EngineView<'_>,
        request: &ShowRequest,
        now: Instant,
    ) -> Result<String, ApiError> {
        match request {
            ShowRequest::Workers(query) => {
                let rows = self.samples.rows(view, now);
                to_json(Rows::page(rows, |row| row.id, query))
            }
            // The others have been continued.
            _ => to_json(Ok(view.status(now))),
        }
    }
}

impl EngineView<'_> {
    /// The first state of an answer that takes a pass over a table; [`ShowProgress::Start`] for
    /// others.
    fn begin(&self, request: &ShowRequest) -> Result<ShowProgress, ApiError> {
        Ok(match request {
            ShowRequest::Mac(query) => {
                ShowProgress::Macs(self.mac_pass(query).map_err(ApiError::refused)?)
            }
            ShowRequest::Neighbors(query) => {
                ShowProgress::Neighbors(NeighborPass::new(query).map_err(ApiError::refused)?)
            }
            ShowRequest::BgpRoutes(query) => {
                self.check_bgp()?;
                ShowProgress::Routes(self.route_pass(query)?)
            }
            ShowRequest::BgpSummary => {
                self.check_bgp()?;
                ShowProgress::Counts(CountPass::default())
            }
            ShowRequest::BgpNeighbor(peer) => {
                self.check_bgp()?;
                self.check_neighbor(peer.neighbor)?;
                ShowProgress::Counts(CountPass::default())
            }
            ShowRequest::Status | ShowRequest::Workers(_) => ShowProgress::Start,
            ShowRequest::Vni(_)
            | ShowRequest::Flood(_)
            | ShowRequest::Ports(_)
            | ShowRequest::Underlay(_)
            | ShowRequest::Drops(_)
            | ShowRequest::BgpSegments(_) => ShowProgress::Table(TablePass::default()),
        })
    }

    /// Adds rows to a page of a table until the time of a portion is over. `None`: to be continued.
    fn continue_table(
        &self,
        request: &ShowRequest,
        pass: &mut TablePass,
        now: Instant,
    ) -> Result<Option<String>, ApiError> {
        let Some(query) = query_of(request) else {
            return Err(ApiError::refused("no table"));
        };
        let portion = Portion::begin();
        loop {
            let part = ShowQuery {
                after: pass.after.take().or_else(|| query.after.clone()),
                limit: ROWS.min(query.rows() - pass.page.rows()),
                ..query.clone()
            };
            let more = match request {
                ShowRequest::Vni(_) => pass.add(self.vni_page(&part)),
                ShowRequest::Flood(_) => pass.add(self.flood_page(&part)),
                ShowRequest::Ports(_) => pass.add(self.port_page(&part)),
                ShowRequest::Underlay(_) => pass.add(self.underlay_page(now, &part)),
                ShowRequest::Drops(_) => pass.add(self.drop_page(&part)),
                _ => pass.add(Rows::page(
                    self.segment_rows(&part),
                    SegmentRow::cursor,
                    &part,
                )),
            }?;
            if !more || pass.page.rows() >= query.rows() {
                return pass.page.finish(pass.after.as_deref()).map(Some);
            }
            if portion.is_over_now() {
                return Ok(None);
            }
        }
    }

    /// Does a portion of the pass, and answers after the last one.
    fn resume(
        &self,
        request: &ShowRequest,
        progress: &mut ShowProgress,
        now: Instant,
    ) -> Option<Result<String, ApiError>> {
        match (request, progress) {
            (ShowRequest::Mac(query), ShowProgress::Macs(pass)) => self.mac_page(query, pass, now),
            (ShowRequest::Neighbors(query), ShowProgress::Neighbors(pass)) => {
                self.neighbor_page(query, pass)
            }
            (ShowRequest::BgpRoutes(query), ShowProgress::Routes(pass)) => {
                self.route_page(query, pass)
            }
            (ShowRequest::BgpSummary, ShowProgress::Counts(pass)) => {
                let counts = self.route_counts(pass)?;
                Some(self.show_bgp_summary(counts, now))
            }
            (ShowRequest::BgpNeighbor(peer), ShowProgress::Counts(pass)) => {
                let counts = self.route_counts(pass)?;
                Some(self.show_bgp_neighbor(peer.neighbor, counts, now))
            }
            _ => Some(Err(ApiError::refused("the answer of another request"))),
        }
    }
}
