//! What `show` answers, read from the workers' own tables and counters.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::Value;
use vtep_dataplane::addr::{HostMac, MacAddr, Vni, VtepAddr};
use vtep_dataplane::afxdp;
use vtep_dataplane::core::verdict::Reason;
use vtep_dataplane::stats::Totals;
use vtep_dataplane::table::mac::Destination;

use super::Engine;
use super::devices::{Managed, Open, Purpose, State};
use super::page::Page;
use crate::api::message::ApiError;
use crate::api::show::{
    AttachMode, BindMode, DropRow, DropsBy, FloodRow, HopState, InterfaceRole, InterfaceRow, MacCursor,
    MacKind, MacRow, NeighborCursor, PortRow, PortState, Query, QueueRow, Rows, ShowRequest, Status, Tables,
    Traffic, UnderlayRow, VniRow, WorkerRow, XdpStatistics,
};
use crate::config::{InterfaceName, PortKey};
use crate::evpn::Origin;

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

/// Why a queue is not polled although busy-poll = true, and what to do.
pub(super) const BUSY_POLL_ENDED: &str = "busy polling was taken back: frames stayed in its tx ring for 10 ms; the driver \
    does not send while it is polled; set [vtep.afxdp] busy-poll = false";

pub(super) fn answer<T: serde::Serialize>(rows: Result<T, String>) -> Result<Value, ApiError> {
    let rows = rows.map_err(ApiError::refused)?;
    serde_json::to_value(rows).map_err(|error| ApiError::refused(error.to_string()))
}

impl Engine {
    /// Answers `show`.
    ///
    /// # Errors
    /// When the cursor of the query is none.
    pub fn show(&mut self, request: &ShowRequest, now: Instant) -> Result<Value, ApiError> {
        match request {
            ShowRequest::Status => answer(Ok(self.status(now))),
            ShowRequest::Vni(query) => answer(Rows::page(self.vni_rows(query), |row| row.vni, query)),
            ShowRequest::Mac(query) => answer(self.mac_page(query, now)),
            ShowRequest::Flood(query) => answer(Rows::page(self.flood_rows(query), |row| row.vni, query)),
            ShowRequest::Ports(query) => answer(Rows::page(self.port_rows(query), place_of_port, query)),
            ShowRequest::Workers(query) => {
                let rows = self.worker_rows(now);
                answer(Rows::page(rows, |row| row.id, query))
            }
            ShowRequest::Underlay(query) => answer(self.underlay_page(now, query)),
            ShowRequest::Drops(query) => answer(Ok(self.drop_rows(query))),
            ShowRequest::BgpSummary => self.show_bgp_summary(now),
            ShowRequest::BgpNeighbor(peer) => self.show_bgp_neighbor(peer.neighbor, now),
            ShowRequest::BgpRoutes(query) => self.show_bgp_routes(query),
            ShowRequest::Neighbors(query) => {
                answer(Rows::page(self.neighbor_rows(query), |row| NeighborCursor(row.vni, row.ip), query))
            }
        }
    }

    fn status(&self, now: Instant) -> Status {
        let snapshot = self.tables.current();
        let uptime = now.saturating_duration_since(self.started).as_secs();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.started_unix,
            uptime,
            degraded: self.degraded(),
            addresses: self.config.vtep().addresses.iter().collect(),
            udp_port: self.config.vtep().udp_port,
            workers: self.workers.count(),
            tables: Tables {
                vnis: snapshot.vnis.iter().count(),
                ports: self.ports.iter().count(),
                macs: self.tables.macs().len(),
                vteps: snapshot.next_hops.iter().count(),
                neighbors: self.tables.neighbors().len(),
                frames: self.config.vtep().afxdp.frames as usize,
            },
            interfaces: self
                .devices
                .all()
                .iter()
                .map(|(name, managed)| {
                    let notes = managed.open().map(|open| self.devices.notes(name, open));
                    InterfaceRow { notes: notes.unwrap_or_default(), ..interface_row(name, managed) }
                })
                .collect(),
        }
    }

    /// Why vtepd does not do all that its configuration says, a sentence each.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut all = Vec::new();
        for address in self.config.vtep().addresses.iter() {
            if !self.underlay.has_address(address.get()) {
                all.push(format!("our VTEP address {address} is on no interface of this host"));
            }
        }
        all.extend(self.speaker.degraded());
        if self.not_installed > 0 {
            all.push(format!("{} entries of EVPN routes found no room in the tables", self.not_installed));
        }
        for (name, managed) in self.devices.all() {
            let (state, reason) = self.port_state(name, managed);
            match state {
                PortState::Up => {}
                PortState::Down => all.push(format!("interface {name} is down")),
                PortState::Absent => all.push(format!("interface {name} does not exist; waiting for it")),
                PortState::Failed => all.push(reason.unwrap_or_default()),
            }
            for queue in managed.open().into_iter().flat_map(|open| self.devices.not_polling(open)) {
                all.push(format!("interface {name} queue {queue}: {BUSY_POLL_ENDED}"));
            }
        }
        all
    }

    fn vni_rows(&self, query: &Query) -> Vec<VniRow> {
        let snapshot = self.tables.current();
        let mut local = vec![0; usize::from(u16::MAX) + 1];
        let (mut remote, mut neighbors) = (local.clone(), local.clone());
        self.tables.neighbors().for_each(|domain, _, _| neighbors[domain.index()] += 1);
        self.tables.macs().for_each(|key, to| match to {
            Destination::Port(_) => local[key.domain().index()] += 1,
            Destination::NextHop(_) => remote[key.domain().index()] += 1,
        });
        let mut rows: Vec<_> = snapshot
            .vnis
            .iter()
            .filter(|domain| query.vni.is_none_or(|vni| vni == domain.vni))
            .map(|domain| VniRow {
                vni: domain.vni,
                ports: domain.flood.ports.len(),
                remote_vteps: snapshot
                    .next_hops
                    .iter()
                    .filter(|(id, hop)| domain.sources.contains(*id) && !hop.vtep.is_group())
                    .count(),
                macs_local: local[domain.id.index()],
                macs_remote: remote[domain.id.index()],
                neighbors: neighbors[domain.id.index()],
                traffic: domain.counters.totals().into(),
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.vni);
        rows
    }

    /// The next page of MACs in the order of (VNI, MAC): one pass over the table, which has no order of its own.
    fn mac_page(&self, query: &Query, now: Instant) -> Result<Rows<MacRow>, String> {
        let after: Option<MacCursor> = query.cursor()?;
        let limit = query.limit.clamp(1, crate::api::show::MAX_ROWS);
        let snapshot = self.tables.current();
        let mut page = Page::new(limit);
        self.tables.macs().for_each(|key, to| {
            let Some(domain) = snapshot.vnis.domain(key.domain()) else { return };
            let place = (domain.vni, key.mac());
            let wanted = query.vni.is_none_or(|vni| vni == place.0)
                && query.mac.is_none_or(|mac| mac == place.1)
                && after.is_none_or(|after| place > (after.0, after.1));
            if wanted {
                page.offer(place, || to);
            }
        });
        let (places, more) = page.finish();
        let rows: Vec<_> = places.into_iter().map(|(place, to)| self.mac_row(place, to, now)).collect();
        let next = rows.last().filter(|_| more).map(|row| MacCursor(row.vni, row.mac).to_string());
        Ok(Rows { rows, next })
    }

    fn mac_row(&self, (vni, mac): (Vni, MacAddr), to: Destination, now: Instant) -> MacRow {
        let host = HostMac::new(mac).ok();
        let known = host.and_then(|host| self.evpn.instance.mac(vni, host));
        let mut flags = Vec::new();
        let (kind, port, vtep) = match to {
            Destination::Port(id) => {
                let locked = self.tables.port(id).is_some_and(|port| port.lock.is_some());
                flags.extend(locked.then_some("locked"));
                (MacKind::Local, self.ports.by_id(id).cloned(), None)
            }
            Destination::NextHop(id) => {
                let hop = self.tables.current().next_hops.get(id);
                flags.extend(hop.is_none_or(|hop| hop.paths.is_empty()).then_some("unresolved"));
                let remote = known.is_some_and(|known| known.origin == Origin::Evpn);
                let kind = if remote { MacKind::Remote } else { MacKind::Static };
                (kind, None, hop.map(|hop| hop.vtep))
            }
        };
        let age = host.and_then(|host| self.learned.age(vni, host, now));
        flags.extend(age.map(|_| "learned"));
        flags.extend(known.filter(|known| known.mobility.sticky).map(|_| "sticky"));
        flags.extend(known.filter(|known| known.frozen).map(|_| "frozen"));
        let sequence =
            known.filter(|known| known.origin != Origin::Static).map(|known| known.mobility.sequence);
        let flags = flags.into_iter().map(str::to_owned).collect();
        MacRow { vni, mac, kind, port, vtep, sequence, flags, age }
    }

    fn flood_rows(&self, query: &Query) -> Vec<FloodRow> {
        let snapshot = self.tables.current();
        let domains = snapshot.vnis.iter().filter(|domain| query.vni.is_none_or(|vni| vni == domain.vni));
        let mut rows: Vec<_> = domains
            .map(|domain| FloodRow {
                vni: domain.vni,
                vteps: domain
                    .flood
                    .next_hops
                    .iter()
                    .filter_map(|id| Some(snapshot.next_hops.get(*id)?.vtep.get()))
                    .collect(),
                ports: domain.flood.ports.iter().filter_map(|id| self.ports.by_id(*id).cloned()).collect(),
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.vni);
        rows
    }

    fn port_rows(&self, query: &Query) -> Vec<PortRow> {
        let mut rows = Vec::new();
        for (name, managed) in self.devices.all() {
            let underlay = managed.purpose == Purpose::Underlay;
            if underlay && query.vni.is_none() {
                rows.push(self.port_row(name, managed, None));
            }
        }
        for (key, port) in self.ports.iter().filter(|(_, port)| query.vni.is_none_or(|vni| vni == port.vni)) {
            if let Some(managed) = self.devices.get(&key.interface) {
                let mut row = self.port_row(&key.interface, managed, key.vlan);
                row.vni = Some(port.vni);
                let totals = port.counters.totals();
                row.notices_held = totals.untold;
                row.traffic = totals.into();
                rows.push(row);
            }
        }
        rows.sort_by_cached_key(place_of_port);
        rows
    }

    fn port_row(&self, name: &InterfaceName, managed: &Managed, vlan: Option<u16>) -> PortRow {
        let (state, reason) = self.port_state(name, managed);
        let interface = interface_row(name, managed);
        PortRow {
            interface: name.to_string(),
            vlan,
            vni: None,
            role: interface.role,
            state,
            reason,
            attach: interface.attach,
            bind: interface.bind,
            multi_buffer: interface.multi_buffer,
            queues: managed.open().map_or_else(Vec::new, |open| {
                open.queues
                    .iter()
                    .map(|queue| QueueRow { queue: queue.number, worker: queue.worker.0 })
                    .collect()
            }),
            traffic: managed.counters.totals().into(),
            notices_held: 0,
            xdp: managed.open().map(|open| self.devices.statistics(open).into()).unwrap_or_default(),
        }
    }

    pub(super) fn port_state(&self, name: &InterfaceName, managed: &Managed) -> (PortState, Option<String>) {
        match &managed.state {
            State::Absent => (PortState::Absent, Some("no such interface; waiting for it".to_owned())),
            State::Failed { reason, .. } => (PortState::Failed, Some(reason.clone())),
            State::Open(_) => match self.underlay.link(name.as_str()) {
                Some(link) if !link.admin_up => {
                    (PortState::Down, Some("set down; `ip link set up`".to_owned()))
                }
                Some(link) if !link.carrier => (PortState::Down, Some("no carrier".to_owned())),
                _ => (PortState::Up, None),
            },
        }
    }

    fn worker_rows(&mut self, now: Instant) -> Vec<WorkerRow> {
        let looks = self.workers.status().map(|(id, core, view)| {
            let before = self.looks.get(id.index()).copied().unwrap_or((self.started, 0));
            let span = now.saturating_duration_since(before.0).as_nanos().max(1) as f64;
            let slept = view.slept_ns.saturating_sub(before.1) as f64;
            let row = WorkerRow {
                id: id.0,
                core,
                busy: (100.0 * (1.0 - slept / span)).clamp(0.0, 100.0),
                loops: view.turns,
                frames: view.frames,
                frames_free: view.free as usize,
            };
            (row, (now, view.slept_ns))
        });
        let (rows, looks) = looks.unzip();
        self.looks = looks;
        rows
    }

    fn underlay_page(&self, now: Instant, query: &Query) -> Result<Rows<UnderlayRow>, String> {
        let snapshot = self.tables.current();
        let rows = self.underlay.show(now).into_iter().flat_map(|shown| {
            let known = VtepAddr::new(shown.vtep).or_else(|_| VtepAddr::group(shown.vtep)).ok();
            let hop = known
                .and_then(|vtep| snapshot.next_hops.by_address(vtep))
                .and_then(|id| snapshot.next_hops.get(id));
            let traffic: Traffic = hop.map(|hop| hop.counters.totals().into()).unwrap_or_default();
            let none = UnderlayRow {
                vtep: shown.vtep,
                state: HopState::Unresolved,
                via: None,
                device: None,
                mac: None,
                mtu: None,
                reason: shown.why_not,
                traffic,
            };
            if shown.paths.is_empty() {
                return vec![none];
            }
            let row = |path: crate::underlay::ShowPath| {
                let mac: Option<MacAddr> = path.mac.and_then(|mac| mac.parse().ok());
                let state = match (&path.fault, mac) {
                    (None, _) => HopState::Up,
                    (Some(_), None) => HopState::Resolving,
                    (Some(_), Some(_)) => HopState::Unresolved,
                };
                UnderlayRow {
                    state,
                    via: path.via,
                    device: Some(path.interface),
                    mac,
                    mtu: Some(path.mtu),
                    reason: path.fault,
                    ..none.clone()
                }
            };
            shown.paths.into_iter().map(row).collect()
        });
        // The paths of one VTEP share its place: a page must not end between them.
        let after: Option<IpAddr> = query.cursor()?;
        let mut rows: Vec<_> = rows.filter(|row| after.is_none_or(|after| row.vtep > after)).collect();
        rows.sort_by_key(|row| row.vtep);
        let limit = query.limit.clamp(1, crate::api::show::MAX_ROWS);
        let mut end = rows.len().min(limit);
        while end < rows.len() && rows[end].vtep == rows[end - 1].vtep {
            end += 1;
        }
        let next = (end < rows.len()).then(|| rows[end - 1].vtep.to_string());
        rows.truncate(end);
        Ok(Rows { rows, next })
    }

    /// Drops by reason are those of the devices: each frame is counted there once. The other groupings show the same
    /// frames by what they belonged to.
    fn drop_rows(&self, query: &Query) -> Rows<DropRow> {
        let snapshot = self.tables.current();
        let mut rows = Vec::new();
        match query.by {
            DropsBy::Reason => {
                let mut sum = Totals::default();
                for managed in self.devices.all().values() {
                    let totals = managed.counters.totals();
                    sum.drops.iter_mut().zip(totals.drops).for_each(|(sum, more)| *sum += more);
                }
                push_drops(&mut rows, None, &sum);
            }
            DropsBy::Port => {
                for (name, managed) in
                    self.devices.all().iter().filter(|(_, m)| m.purpose == Purpose::Underlay)
                {
                    push_drops(&mut rows, Some(name.to_string()), &managed.counters.totals());
                }
                for (key, port) in self.ports.iter().filter(|(_, p)| query.vni.is_none_or(|vni| vni == p.vni))
                {
                    push_drops(&mut rows, Some(key.to_string()), &port.counters.totals());
                }
            }
            DropsBy::Vni => {
                for domain in snapshot.vnis.iter().filter(|d| query.vni.is_none_or(|vni| vni == d.vni)) {
                    push_drops(&mut rows, Some(domain.vni.to_string()), &domain.counters.totals());
                }
            }
            DropsBy::Vtep => {
                for (_, hop) in snapshot.next_hops.iter() {
                    push_drops(&mut rows, Some(hop.vtep.to_string()), &hop.counters.totals());
                }
            }
        }
        Rows { rows, next: None }
    }
}

fn push_drops(rows: &mut Vec<DropRow>, by: Option<String>, totals: &Totals) {
    for reason in Reason::ALL {
        let count = totals.drops[*reason as usize];
        if count > 0 {
            let (reason, explain) = (reason.name().to_owned(), reason.explain().to_owned());
            rows.push(DropRow { reason, explain, count, by: by.clone() });
        }
    }
}

fn place_of_port(row: &PortRow) -> PortKey {
    let interface = row.interface.parse().expect("rows are made of valid names");
    PortKey { interface, vlan: row.vlan }
}

fn interface_row(name: &InterfaceName, managed: &Managed) -> InterfaceRow {
    let open = managed.open();
    InterfaceRow {
        interface: name.to_string(),
        role: match managed.purpose {
            Purpose::Underlay => InterfaceRole::Underlay,
            Purpose::Tenant | Purpose::Trunk => InterfaceRole::Tenant,
        },
        attach: open.map(|open| match open.xdp.attach_mode() {
            afxdp::AttachMode::Native => AttachMode::Native,
            afxdp::AttachMode::Generic => AttachMode::Generic,
        }),
        bind: open.and_then(|open| open.queues.first()).map(|queue| match queue.mode {
            afxdp::BindMode::ZeroCopy => BindMode::ZeroCopy,
            afxdp::BindMode::Copy => BindMode::Copy,
        }),
        multi_buffer: open.map(Open::takes_chains),
        queues: open.map_or(0, |open| open.queues.len() as u32),
        notes: Vec::new(),
    }
}

impl From<afxdp::Statistics> for XdpStatistics {
    fn from(one: afxdp::Statistics) -> Self {
        Self {
            rx_dropped: one.rx_dropped,
            rx_invalid_descs: one.rx_invalid,
            tx_invalid_descs: one.tx_invalid,
            rx_ring_full: one.rx_ring_full,
            rx_fill_ring_empty_descs: one.fill_ring_empty,
            tx_ring_empty_descs: one.tx_ring_empty,
        }
    }
}
