//! `show status`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vtep_dataplane::table::vtep::RemoteVtep;

use super::ports::interface_row;
use crate::api::interface::InterfaceRow;
use crate::api::show::{DaemonStatus, PortState, TableSizes};
use crate::config;
use crate::engine::EngineView;
use crate::interfaces::{BUSY_POLL_ENDED, IoKind, Purpose, UnboundQueue};

/// VTEPs that a reason names.
const NAMED: usize = 8;

/// An answer of the kernel that takes longer is reported.
const SLOW_KERNEL: Duration = Duration::from_secs(5);

impl EngineView<'_> {
    pub(super) fn status(&self, now: Instant) -> DaemonStatus {
        let snapshot = self.fib.current();
        let uptime = now.saturating_duration_since(self.started).as_secs();
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.started_unix,
            uptime,
            degraded: self.degraded(now),
            bgp: self.session_counts(),
            addresses: self.config.vtep().addresses.iter().collect(),
            udp_port: self.config.vtep().udp_port,
            workers: self.workers.count(),
            tables: TableSizes {
                vnis: snapshot.vnis.iter().count(),
                ports: self.ports.len(),
                macs: self.fib.macs().len(),
                vteps: snapshot.vteps.iter().count(),
                neighbors: self.fib.neighbors().len(),
                frames: self.config.vtep().afxdp.frames as usize,
            },
            longest_turn: self.longest_turn(),
            interfaces: self
                .interfaces
                .all()
                .iter()
                .map(|(name, managed)| {
                    let notes = managed
                        .open()
                        .map(|open| self.interfaces.notes(name, managed.purpose, open));
                    let mut notes = notes.unwrap_or_default();
                    if managed.purpose == Purpose::Underlay {
                        notes.extend(self.underlay.bypassed_on(name.as_str(), false));
                    }
                    InterfaceRow {
                        notes,
                        ..interface_row(name, managed)
                    }
                })
                .collect(),
        }
    }

    /// The VTEPs without a usable path, if there are some; `show underlay` has the causes.
    fn unresolved_vteps(&self) -> Option<String> {
        let snapshot = self.fib.current();
        let unresolved =
            |(_, vtep): (_, &Arc<RemoteVtep>)| vtep.paths.is_empty().then(|| vtep.vtep.to_string());
        let names: Vec<_> = snapshot.vteps.iter().filter_map(unresolved).collect();
        let (first, rest) = names.split_at(names.len().min(NAMED));
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!names.is_empty()).then(|| {
            format!(
                "no path to {} of {} remote VTEPs: {}{more}; `show underlay` has the causes",
                names.len(),
                snapshot.vteps.iter().count(),
                first.join(", "),
            )
        })
    }

    /// Why vtepd does not work as configured, one sentence for each reason.
    #[must_use]
    pub fn degraded(&self, now: Instant) -> Vec<String> {
        let mut all = Vec::new();
        for address in self.config.vtep().addresses.iter() {
            if !self.underlay.has_address(address.get()) {
                all.push(format!(
                    "local VTEP address {address} is not on any interface of this host"
                ));
            }
        }
        all.extend(self.bgp.degraded(now));
        let refused = self.fib.refused();
        if refused > 0 {
            all.push(format!(
                "{refused} entries are not installed, because a table is full; they are as soon as \
                 others are removed"
            ));
        }
        all.extend(self.unresolved_vteps());
        all.extend(self.host_problems());
        for (name, managed) in self.interfaces.all() {
            let (state, reason) = self.port_state(name, managed);
            match state {
                PortState::Up => {}
                PortState::Down => all.push(format!("interface {name} is down")),
                PortState::Absent => {
                    all.push(format!("interface {name} does not exist; waiting for it"));
                }
                PortState::Failed => {
                    let reason = reason.unwrap_or_default();
                    let named = reason.starts_with(&format!("interface {name}"));
                    all.push(if named {
                        reason
                    } else {
                        format!("interface {name}: {reason}")
                    });
                }
            }
            let Some(open) = managed.open() else {
                continue;
            };
            for queue in self.interfaces.not_polling(open) {
                all.push(format!("interface {name} queue {queue}: {BUSY_POLL_ENDED}"));
            }
            all.extend(open.backend.preceded_by());
            all.extend(open.unwritten(name));
            for UnboundQueue { number, reason } in &open.unbound {
                all.push(match open.backend.io() {
                    IoKind::Xdp => format!(
                        "interface {name} queue {number} has no socket, its frames are dropped: {reason}"
                    ),
                    IoKind::Packet => {
                        format!("interface {name} has no packet socket {number}: {reason}")
                    }
                });
            }
        }
        all.extend(self.mtu_problems());
        all.extend(self.kernel_problem(now));
        all
    }

    /// That the kernel does not answer questions about interfaces.
    fn kernel_problem(&self, now: Instant) -> Option<String> {
        let waiting = self.interfaces.unanswered(now);
        (waiting >= SLOW_KERNEL).then(|| {
            format!(
                "the kernel has not answered for {} s about interfaces, whose changes are not followed meanwhile: \
                 something holds its rtnl lock, such as the removal of a network namespace; if it stays so, look for \
                 a blocked task (`dmesg`, `cat /proc/*/stack | grep rtnl`)",
                waiting.as_secs()
            )
        })
    }

    /// Interfaces whose MTU costs frames, now: it may have changed since the start.
    fn mtu_problems(&self) -> Vec<String> {
        let overhead = config::overhead(self.config.vtep().addresses.v6.is_some());
        let open = || {
            let all = self.interfaces.all().iter();
            all.filter_map(|(name, managed)| Some((name, managed.purpose, managed.open()?.mtu)))
        };
        let underlay = |(_, purpose, _): &(_, Purpose, _)| *purpose == Purpose::Underlay;
        let small = open()
            .filter(underlay)
            .filter_map(|(name, _, mtu)| config::underlay_mtu_too_small(name, mtu, overhead));
        let mut all: Vec<_> = small.collect();
        let Some(least) = open().filter(underlay).map(|(_, _, mtu)| mtu).min() else {
            return all;
        };
        if all.is_empty() {
            let carried = least.saturating_sub(overhead);
            let tagged = config::with_tags(self.config);
            let tenants = open().filter(|interface| !underlay(interface));
            all.extend(tenants.filter_map(|(name, _, mtu)| {
                let has_tag = tagged.contains(name);
                config::tenant_mtu_too_large((name, has_tag), mtu, carried, overhead)
            }));
        }
        all
    }
}
