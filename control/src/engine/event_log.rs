//! Which events of the EVPN speaker are logged: routes of a peer cause them, so the lines of each
//! text are limited.

use std::time::Instant;

use crate::evpn::EvpnEvent;
use crate::notices::Notices;

/// What was logged lately.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    contested: Notices,
    contested_for_good: Notices,
    frozen: Notices,
    limit_reached: Notices,
    endpoint_mismatch: Notices,
    tables_full: Notices,
}

impl EventLog {
    /// Logs what an operator has to know of an event. `suppressed`: lines with the same text that
    /// were left out before.
    pub(super) fn event(&mut self, event: &EvpnEvent, now: Instant) {
        let Some(notices) = self.notices(event) else {
            return;
        };
        if let Some(suppressed) = notices.allow(now) {
            log(event, suppressed);
        }
    }

    /// Entries of routes found no space in the tables.
    pub(super) fn tables_full(&mut self, entries: u64, now: Instant) {
        if let Some(suppressed) = self.tables_full.allow(now) {
            tracing::error!(
                entries,
                suppressed,
                "tables are full: entries of EVPN routes are not installed"
            );
        }
    }

    /// `None`: the event is not logged.
    const fn notices(&mut self, event: &EvpnEvent) -> Option<&mut Notices> {
        match event {
            EvpnEvent::Contested {
                is_highest: true, ..
            } => Some(&mut self.contested_for_good),
            EvpnEvent::Contested { .. } => Some(&mut self.contested),
            EvpnEvent::Frozen { .. } => Some(&mut self.frozen),
            EvpnEvent::LimitReached { .. } => Some(&mut self.limit_reached),
            EvpnEvent::EndpointMismatch { .. } => Some(&mut self.endpoint_mismatch),
            EvpnEvent::Moved { .. }
            | EvpnEvent::AddressMoved { .. }
            | EvpnEvent::AddressRefused { .. }
            | EvpnEvent::LearnedGone { .. }
            | EvpnEvent::Unfrozen { .. }
            | EvpnEvent::Looped { .. } => None,
        }
    }
}

fn log(event: &EvpnEvent, suppressed: u64) {
    match *event {
        EvpnEvent::Contested {
            vni,
            mac,
            vtep,
            sequence,
            is_highest: true,
        } => tracing::warn!(
            %vni,
            %mac,
            %vtep,
            sequence,
            suppressed,
            "another VTEP claims a MAC that is attached here with the highest sequence, so that the \
             claim can't be answered; withdraw the route there"
        ),
        EvpnEvent::Contested {
            vni,
            mac,
            vtep,
            sequence,
            is_highest: false,
        } => {
            tracing::warn!(%vni, %mac, %vtep, sequence, suppressed, "another VTEP claims a MAC that is attached here");
        }
        EvpnEvent::Frozen { vni, mac } => tracing::warn!(
            %vni,
            %mac,
            suppressed,
            "duplicate MAC: moved too often and is frozen; `vtepctl mac unfreeze` releases it"
        ),
        EvpnEvent::LimitReached { vni, limit } => {
            tracing::warn!(%vni, limit, suppressed, "the VNI has reached max-macs; further MACs are neither installed nor learned");
        }
        EvpnEvent::EndpointMismatch {
            vni,
            endpoint,
            originator,
        } => tracing::warn!(
            %vni,
            %endpoint,
            %originator,
            suppressed,
            "the tunnel endpoint of a type 3 route differs from its originator; flooding to the \
             endpoint"
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log is bounded, whatever routes a peer sends, and each text by itself.
    #[test]
    fn lines_that_routes_cause_are_limited() {
        let (mut log, now) = (EventLog::default(), Instant::now());
        let vni = vtep_dataplane::addr::Vni::new(100).unwrap();
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        let mac = vtep_dataplane::addr::MacAddr([2, 0, 0, 0, 0, 1]);
        let mac = vtep_dataplane::addr::HostMac::new(mac).unwrap();
        let contested = |is_highest| EvpnEvent::Contested {
            vni,
            mac,
            vtep: vtep_dataplane::addr::VtepAddr::new(address).unwrap(),
            sequence: 1,
            is_highest,
        };
        let events = [
            contested(false),
            contested(true),
            EvpnEvent::EndpointMismatch {
                vni,
                endpoint: address,
                originator: address,
            },
            EvpnEvent::Frozen { vni, mac },
            EvpnEvent::LimitReached { vni, limit: 1 },
        ];
        for event in &events {
            let notices = log.notices(event).unwrap();
            let lines = (0..5000).filter(|_| notices.allow(now).is_some());
            assert_eq!(lines.count(), 10, "{event:?}");
        }
        assert!(log.notices(&EvpnEvent::Unfrozen { vni, mac }).is_none());
    }
}
