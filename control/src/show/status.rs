//! `show status`.

use std::time::Instant;

use super::ports::interface_row;
use crate::api::interface::InterfaceRow;
use crate::api::show::{DaemonStatus, PortState, TableSizes};
use crate::engine::EngineView;
use crate::interfaces::BUSY_POLL_ENDED;

impl EngineView<'_> {
    pub(super) fn status(&self, now: Instant) -> DaemonStatus {
        let snapshot = self.fib.current();
        let uptime = now.saturating_duration_since(self.started).as_secs();
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.started_unix,
            uptime,
            degraded: self.degraded(),
            addresses: self.config.vtep().addresses.iter().collect(),
            udp_port: self.config.vtep().udp_port,
            workers: self.workers.count(),
            tables: TableSizes {
                vnis: snapshot.vnis.iter().count(),
                ports: self.ports.iter().count(),
                macs: self.fib.macs().len(),
                vteps: snapshot.vteps.iter().count(),
                neighbors: self.fib.neighbors().len(),
                frames: self.config.vtep().afxdp.frames as usize,
            },
            interfaces: self
                .interfaces
                .all()
                .iter()
                .map(|(name, managed)| {
                    let notes = managed.open().map(|open| self.interfaces.notes(name, open));
                    InterfaceRow {
                        notes: notes.unwrap_or_default(),
                        ..interface_row(name, managed)
                    }
                })
                .collect(),
        }
    }

    /// Why vtepd does not work as configured, one sentence for each reason.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut all = Vec::new();
        for address in self.config.vtep().addresses.iter() {
            if !self.underlay.has_address(address.get()) {
                all.push(format!(
                    "local VTEP address {address} is not on any interface of this host"
                ));
            }
        }
        all.extend(self.bgp.degraded());
        if self.not_installed > 0 {
            all.push(format!(
                "{} entries of EVPN routes are not installed: a table is full",
                self.not_installed
            ));
        }
        for (name, managed) in self.interfaces.all() {
            let (state, reason) = self.port_state(name, managed);
            match state {
                PortState::Up => {}
                PortState::Down => all.push(format!("interface {name} is down")),
                PortState::Absent => {
                    all.push(format!("interface {name} does not exist; waiting for it"));
                }
                PortState::Failed => all.push(reason.unwrap_or_default()),
            }
            for queue in managed
                .open()
                .into_iter()
                .flat_map(|open| self.interfaces.not_polling(open))
            {
                all.push(format!("interface {name} queue {queue}: {BUSY_POLL_ENDED}"));
            }
        }
        all
    }
}
