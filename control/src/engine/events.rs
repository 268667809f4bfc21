//! Events of the underlay and of the workers' sockets: paths to VTEPs, links, addresses, errors.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::VtepAddr;
use vtep_dataplane::event::WorkerEvent;
use vtep_dataplane::table::encapsulation::OuterHeader;
use vtep_dataplane::table::vtep::Adjacency;

use super::Engine;
use crate::config::InterfaceName;
use crate::interfaces::{ManagedInterface, Purpose};
use crate::underlay::{self, UnderlayEvent};

/// Worker events that one turn handles: about a millisecond of work.
const EVENTS_AT_ONCE: usize = 256;

/// Interval of the regular look at interfaces, and how many one look takes at most.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_LIMIT: usize = 64;

/// Interval of the look at IPsec policies and tc, which only matter to the operator.
const POLICIES: Duration = Duration::from_secs(5);

/// The regular look at interfaces: what no event announced is noticed, too.
#[derive(Debug)]
pub(super) struct RegularLook {
    at: Instant,
    last: Option<InterfaceName>,
    policies_at: Instant,
    /// What was logged about the host's policies.
    logged: BTreeSet<String>,
}

impl RegularLook {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            at: now,
            last: None,
            policies_at: now,
            logged: BTreeSet::new(),
        }
    }
}

impl Engine {
    pub(super) fn poll_underlay(&mut self, now: Instant) {
        match self.underlay.poll(now) {
            Ok(changes) => changes
                .into_iter()
                .for_each(|change| self.handle_underlay_event(change, now)),
            Err(error) => {
                tracing::error!(%error, "netlink failed; resolved paths stay in use until it works again");
            }
        }
    }

    fn handle_underlay_event(&mut self, change: UnderlayEvent, now: Instant) {
        match change {
            UnderlayEvent::Resolved(resolved) => {
                self.set_paths(resolved.vtep, &resolved.paths, now);
            }
            UnderlayEvent::Link(change) => {
                self.link_changed(&change, now);
                self.update_receptions();
            }
            UnderlayEvent::Address(change) => {
                if !change.present
                    && self
                        .config
                        .vtep()
                        .addresses
                        .iter()
                        .any(|own| own.get() == change.address)
                {
                    tracing::warn!(
                        address = %change.address,
                        "the local VTEP address was removed from this host; peers can't reach it"
                    );
                }
            }
        }
    }

    fn set_paths(&mut self, vtep: VtepAddr, paths: &[underlay::ResolvedPath], now: Instant) {
        let mut table = Vec::new();
        for path in underlay::weighted_slots(paths) {
            let Some(header) = OuterHeader::new(&path.fields) else {
                continue;
            };
            let name = self.configured_names(path.ifindex).next();
            // A path over an interface without sockets would lose its share of the frames.
            let device = name
                .and_then(|name| self.interfaces.get(&name))
                .filter(|managed| managed.open().is_some());
            let Some(device) = device else {
                continue;
            };
            table.push(Adjacency {
                device: device.id,
                rewrite: header,
                max_frame: path.max_frame,
            });
        }
        let resolved = Some(!table.is_empty());
        self.evpn.speaker.vtep_resolved(now, vtep, resolved);
        self.fib.set_paths(vtep, table.into());
    }

    /// Sets the paths of all VTEPs again: an underlay interface was opened or closed.
    pub(super) fn set_all_paths(&mut self, now: Instant) {
        for vtep in self.fib.tracked_vteps() {
            if let Some(paths) = self.underlay.paths(vtep).map(<[_]>::to_vec) {
                self.set_paths(vtep, &paths, now);
            }
        }
    }

    /// Publishes underlay interfaces on which this host receives other frames than before: an
    /// interface over them, or their place in a bond, may have changed.
    fn update_receptions(&mut self) {
        let changed = |(name, managed): (&InterfaceName, &ManagedInterface)| {
            let open = managed
                .open()
                .filter(|_| managed.purpose == Purpose::Underlay)?;
            let reception = self.underlay.reception(open.backend.ifindex());
            let device = self.fib.device(managed.id)?;
            let same = *device.macs == *reception.macs && device.standby == reception.standby;
            (!same).then(|| name.clone())
        };
        let changed: Vec<_> = self.interfaces.all().iter().filter_map(changed).collect();
        for name in changed {
            self.publish_interface(&name);
        }
    }

    /// The names of an interface that the configuration uses: its name or an alternative name.
    fn configured_names(&self, ifindex: u32) -> impl Iterator<Item = InterfaceName> {
        let link = self.underlay.link_by_index(ifindex);
        let names = link.into_iter().flat_map(underlay::Link::names);
        let names = names.filter_map(|name| name.parse::<InterfaceName>().ok());
        names.filter(|name| self.interfaces.get(name).is_some())
    }

    /// Handles a change of a link: it concerns the interfaces of its names, and the one that was
    /// opened when the link had another name.
    fn link_changed(&mut self, change: &underlay::LinkChange, now: Instant) {
        let names = change.link.names();
        let mut concerned: BTreeSet<InterfaceName> =
            names.filter_map(|name| name.parse().ok()).collect();
        concerned.extend(self.interfaces.by_index(change.link.index).cloned());
        for name in concerned {
            self.touched.insert(name.clone());
            if self.interfaces.get(&name).is_some() && self.follow_link(&name, now) {
                self.interface_changed(&name);
            }
        }
    }

    /// Opens, closes or updates an interface as its link is now. Returns whether it changed.
    fn follow_link(&mut self, name: &InterfaceName, now: Instant) -> bool {
        self.check_suitable(name);
        let managed = self.interfaces.get(name);
        let open = managed.and_then(|managed| managed.open());
        let open = open.map(|open| open.backend.ifindex());
        let link = self.underlay.link(name.as_str());
        let (interfaces, workers) = (&mut self.interfaces, &mut self.workers);
        match (open, link) {
            (None, None) => false,
            (None, Some(_)) => interfaces.try_open(name, workers, now),
            (Some(_), None) => interfaces.close(name, workers),
            (Some(index), Some(link)) if index != link.index => {
                interfaces.close(name, workers) | interfaces.try_open(name, workers, now)
            }
            (Some(_), Some(link)) if interfaces.must_rebind(name, link.mtu) => {
                tracing::info!(interface = %name, mtu = link.mtu, "the new MTU requires another bind mode");
                interfaces.close_to_reopen(name, workers) | interfaces.try_open(name, workers, now)
            }
            // It may have been removed and created again with the same index.
            (Some(_), Some(link)) => {
                interfaces.look(name, now);
                interfaces.set_mtu(name, link.mtu)
                    | interfaces.set_link(name, link.up(), now)
                    | interfaces.match_queues(name, workers, now)
            }
        }
    }

    /// Finds out whether an interface can be what the configuration says: a tenant port, unless it is
    /// in `[vtep] underlay`.
    pub(super) fn check_suitable(&mut self, name: &InterfaceName) {
        let obstacle = if self.config.vtep().underlay.contains(name) {
            self.underlay.underlay_obstacle(name.as_str())
        } else {
            let obstacle = self.underlay.tenant_obstacle(name.as_str());
            obstacle.map(|obstacle| obstacle.reason)
        };
        self.interfaces.set_obstacle(name, obstacle);
    }

    /// Publishes an interface that was opened or closed, or whose queues changed.
    pub(super) fn interface_changed(&mut self, name: &InterfaceName) {
        self.publish_interface(name);
    }

    /// Follows queues that were added or removed: those that the kernel announces, and some of all
    /// interfaces at each regular look.
    pub(super) fn follow_queues(&mut self, now: Instant) {
        let mut names = BTreeSet::new();
        if let Some(events) = &mut self.queue_events {
            let changes = events.read().unwrap_or_else(|error| {
                tracing::debug!(%error, "can't read events of queues");
                Default::default()
            });
            for interface in changes.interfaces {
                let link = self.underlay.link(&interface);
                names.extend(
                    link.into_iter()
                        .flat_map(|link| self.configured_names(link.index)),
                );
                names.extend(interface.parse::<InterfaceName>().ok());
            }
            if changes.lost {
                names.extend(self.interfaces.all().keys().cloned());
            }
        }
        if now >= self.look.at {
            let portion = self
                .interfaces
                .next_after(self.look.last.as_ref(), LOOK_LIMIT);
            self.look.at = now + LOOK;
            self.look.last = portion.last().cloned();
            names.extend(portion);
        }
        for name in names {
            let up = self.underlay.link(name.as_str()).map(underlay::Link::up);
            let link = up.is_some_and(|up| self.interfaces.set_link(&name, up, now));
            self.interfaces.look(&name, now);
            if self.interfaces.match_queues(&name, &mut self.workers, now) || link {
                self.interface_changed(&name);
            }
        }
        for (name, changed) in self.interfaces.finish_looks(&mut self.workers, now) {
            if changed {
                self.interface_changed(&name);
            }
        }
    }

    /// Looks at the policies of the host that vtepd bypasses, and logs what is new.
    pub(super) fn look_at_policies(&mut self, now: Instant) {
        if now >= self.look.policies_at {
            self.look.policies_at = now + POLICIES;
            if self.groups.problem().is_some() {
                self.sync_groups();
            }
            self.underlay.read_policies(&self.background, now);
        }
        if !self.underlay.take_policies() {
            return;
        }
        let view = self.view();
        let problems = view.host_problems().into_iter();
        let problems: BTreeSet<String> = problems.chain(view.underlay_notes()).collect();
        for reason in problems.difference(&self.look.logged) {
            tracing::warn!(reason, "the host is not set up for vtepd");
        }
        self.look.logged = problems;
    }

    /// Handles what the workers have reported since the last call, so much at a time that sessions
    /// and clients do not wait long.
    pub(super) fn handle_worker_events(&mut self, now: Instant) {
        self.events_left = true;
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.workers.events.next() else {
                self.events_left = false;
                break;
            };
            match event {
                WorkerEvent::SocketFailed {
                    worker,
                    device,
                    queue,
                    errno,
                } => {
                    let name = self
                        .fib
                        .device(device)
                        .map_or("?", |device| device.name.as_str());
                    let error = io::Error::from_raw_os_error(errno);
                    tracing::warn!(interface = name, queue, worker = worker.0, %error, "a socket reports an error");
                }
                WorkerEvent::BusyPollEnded {
                    worker,
                    device,
                    queue,
                } => {
                    let name = self
                        .fib
                        .device(device)
                        .map_or("?", |device| device.name.as_str());
                    tracing::warn!(
                        interface = name,
                        queue,
                        worker = worker.0,
                        reason = crate::interfaces::BUSY_POLL_ENDED,
                        "busy polling was switched off for a queue"
                    );
                }
                WorkerEvent::Learn(version, event) => self.learn_event(version, event, now),
            }
        }
    }
}
