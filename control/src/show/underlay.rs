//! `show underlay`.

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::VtepAddr;

use crate::api::show::{MAX_ROWS, PathState, Rows, ShowQuery, Traffic, UnderlayRow};
use crate::engine::EngineView;
use crate::underlay::ShowPath;

impl EngineView<'_> {
    pub(super) fn underlay_page(
        &self,
        now: Instant,
        query: &ShowQuery,
    ) -> Result<Rows<UnderlayRow>, String> {
        let snapshot = self.fib.current();
        let rows = self.underlay.show(now).into_iter().flat_map(|shown| {
            let known = VtepAddr::new(shown.vtep)
                .or_else(|_| VtepAddr::group(shown.vtep))
                .ok();
            let hop = known
                .and_then(|vtep| snapshot.vteps.by_address(vtep))
                .and_then(|id| snapshot.vteps.get(id));
            let traffic: Traffic = hop
                .map(|hop| hop.counters.totals().into())
                .unwrap_or_default();
            let none = UnderlayRow {
                vtep: shown.vtep,
                state: PathState::Unresolved,
                via: None,
                device: None,
                mac: None,
                mtu: None,
                reason: shown.error.as_ref().map(ToString::to_string),
                error: shown.error.map(|error| error.name().to_owned()),
                traffic,
            };
            if shown.paths.is_empty() {
                return vec![none];
            }
            let row = |path: ShowPath| {
                let state = match (&path.error, path.mac) {
                    (None, _) => PathState::Up,
                    (Some(_), None) => PathState::Resolving,
                    (Some(_), Some(_)) => PathState::Unresolved,
                };
                UnderlayRow {
                    state,
                    via: path.via,
                    device: Some(path.interface),
                    mac: path.mac,
                    mtu: Some(path.mtu),
                    reason: path.error.as_ref().map(ToString::to_string),
                    error: path.error.map(|error| error.name().to_owned()),
                    ..none.clone()
                }
            };
            shown.paths.into_iter().map(row).collect()
        });
        // The paths of one VTEP share its cursor: a page must not end between them.
        let after: Option<IpAddr> = query.cursor()?;
        let mut rows: Vec<_> = rows
            .filter(|row| after.is_none_or(|after| row.vtep > after))
            .collect();
        rows.sort_by_key(|row| row.vtep);
        let limit = query.limit.clamp(1, MAX_ROWS);
        let mut end = rows.len().min(limit);
        while end < rows.len() && rows[end].vtep == rows[end - 1].vtep {
            end += 1;
        }
        let next = (end < rows.len()).then(|| rows[end - 1].vtep.to_string());
        rows.truncate(end);
        Ok(Rows { rows, next })
    }
}
