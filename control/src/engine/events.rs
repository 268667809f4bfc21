//! Events of the underlay and of the workers' sockets: paths to VTEPs, links, addresses, errors.

use std::io;
use std::time::Instant;

use vtep_dataplane::addr::VtepAddr;
use vtep_dataplane::event::WorkerEvent;
use vtep_dataplane::table::encapsulation::OuterHeader;
use vtep_dataplane::table::vtep::Adjacency;

use super::Engine;
use crate::config::InterfaceName;
use crate::underlay::{self, UnderlayEvent};

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
            UnderlayEvent::Resolved(resolved) => self.set_paths(resolved.vtep, &resolved.paths),
            UnderlayEvent::Link(change) => self.link_changed(&change, now),
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

    fn set_paths(&mut self, vtep: VtepAddr, paths: &[underlay::ResolvedPath]) {
        let mut table = Vec::new();
        for path in underlay::weighted_slots(paths) {
            let Some(header) = OuterHeader::new(&path.fields) else {
                continue;
            };
            let name = path.device.parse::<InterfaceName>().ok();
            let Some(device) = name.and_then(|name| self.interfaces.get(&name)) else {
                continue;
            };
            table.push(Adjacency {
                device: device.id,
                rewrite: header,
                max_frame: path.max_frame,
            });
        }
        self.fib.set_paths(vtep, table.into());
    }

    /// Opens, closes or updates an interface whose link has changed.
    fn link_changed(&mut self, change: &underlay::LinkChange, now: Instant) {
        let Ok(name) = change.link.name.parse::<InterfaceName>() else {
            return;
        };
        let Some(managed) = self.interfaces.get(&name) else {
            return;
        };
        let open = managed.open().map(|open| open.backend.ifindex());
        let changed = match open {
            Some(index) if !change.present && index == change.link.index => {
                self.interfaces.close(&name, &self.workers)
            }
            // Another interface with the same name: the removal of the old one was missed.
            Some(index) if change.present && index != change.link.index => {
                self.interfaces.close(&name, &self.workers)
                    | self.interfaces.try_open(&name, &self.workers, now)
            }
            Some(_) if self.interfaces.must_rebind(&name, change.link.mtu) => {
                tracing::info!(interface = %name, mtu = change.link.mtu, "the new MTU requires another bind mode");
                self.interfaces.close(&name, &self.workers)
                    | self.interfaces.try_open(&name, &self.workers, now)
            }
            Some(_) => self.interfaces.set_mtu(&name, change.link.mtu),
            None => change.present && self.interfaces.try_open(&name, &self.workers, now),
        };
        if changed {
            self.publish_interface(&name);
        }
    }

    /// Handles what the workers have reported since the last call.
    pub(super) fn handle_worker_events(&mut self, now: Instant) {
        while let Some(event) = self.workers.events.next() {
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
                WorkerEvent::Learn(event) => self.learn_event(event, now),
            }
        }
    }
}
