//! `show underlay`.

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::VtepAddr;

use crate::api::show::{PathState, Rows, ShowQuery, Traffic, UnderlayRow};
use crate::engine::EngineView;
use crate::underlay::ShowPath;

impl EngineView<'_> {
    pub(super) fn underlay_page(
        &self,
        now: Instant,
        query: &ShowQuery,
    ) -> Result<Rows<UnderlayRow>, String> {
        let snapshot = self.fib.current();
        let after: Option<IpAddr> = query.cursor()?;
        let rows = self.underlay.show_after(after, now).flat_map(|shown| {
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
                members: Vec::new(),
                io: None,
                io_reason: None,
                mac: None,
                mtu: None,
                path_mtu: shown.path_mtu.map(|known| known.mtu),
                path_mtu_reporter: shown.path_mtu.and_then(|known| known.reporter),
                path_mtu_expires: shown
                    .path_mtu
                    .map(|known| known.until.saturating_duration_since(now).as_secs()),
                reason: shown.error.as_ref().map(ToString::to_string),
                error: shown.error.map(|error| error.name().to_owned()),
                traffic,
            };
            if shown.paths.is_empty() {
                return vec![none];
            }
            let row = |path| self.path_row(path, none.clone());
            shown.paths.into_iter().map(row).collect()
        });
        // The paths of one VTEP share its cursor: a page must not end between them.
        let mut rows = rows.peekable();
        let mut page: Vec<UnderlayRow> = Vec::new();
        while let Some(next) = rows.peek() {
            if page.len() >= query.rows()
                && let Some(last) = page.last()
                && last.vtep != next.vtep
            {
                let next = Some(last.vtep.to_string());
                return Ok(Rows { rows: page, next });
            }
            page.extend(rows.next());
        }
        let (rows, next) = (page, None);
        Ok(Rows { rows, next })
    }
    /// The row of a path, with what it shares with the others of its VTEP.
    fn path_row(&self, path: ShowPath, shared: UnderlayRow) -> UnderlayRow {
        let state = match (&path.error, path.mac) {
            (None, _) => PathState::Up,
            (Some(_), None) => PathState::Resolving,
            (Some(_), Some(_)) => PathState::Unresolved,
        };
        let open = path.ifindex.and_then(|index| {
            let name = self.interfaces.by_index(index)?;
            self.interfaces.get(name)?.open()
        });
        UnderlayRow {
            state,
            io: open.map(|open| open.choice.kind.into()),
            io_reason: open.map(|open| open.choice.why.to_owned()),
            via: path.via,
            device: Some(path.interface),
            members: path.members.iter().map(ToString::to_string).collect(),
            mac: path.mac,
            mtu: Some(path.mtu),
            reason: path.error.as_ref().map(ToString::to_string),
            error: path.error.map(|error| error.name().to_owned()),
            ..shared
        }
    }
}
