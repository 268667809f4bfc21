//! Conflicts over an address: between local hosts, and with other VTEPs (RFC 9161 section 3.7, RFC
//! 9721). Configured addresses stay; learned ones follow the latest claim.
//!
//! ```text
//! ARP, ND of a local host -> attached? static? sticky elsewhere? -> refused
//!                         -> moves too often? -> refused
//!                         -> claims it; its MAC gets a sequence above that of the route
//! route of another VTEP   -> new, or a higher sequence: the learned address yields
//! ```

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};
use vtep_dataplane::wire::nd::NdFlags;

use super::EvpnNeighborTable;
use crate::evpn::address::{AddressClaim, AddressError};
use crate::evpn::config::LocalKind;
use crate::evpn::event::EvpnEvent;
use crate::evpn::mac_table::EvpnMacTable;
use crate::evpn::shared::SharedState;
use crate::rib::{RouteId, compare_sequence, next_sequence};

/// What routes say about an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteClaim {
    pub(super) mac: HostMac,
    pub(super) nd: Option<NdFlags>,
    sequence: u32,
    /// It never moves: sticky, immutable (RFC 9047), or the default gateway.
    pub(super) stays: bool,
}

/// How the best route for an address has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    pub(super) route: RouteId,
    /// It has another entry than the best route before.
    pub(super) changed: bool,
    /// It was announced just now, and no path of it was held before.
    pub(super) is_new: bool,
}

impl EvpnNeighborTable {
    /// What the installed route says about an address.
    pub(super) fn remote(
        &self,
        shared: &SharedState,
        macs: &EvpnMacTable,
        vni: Vni,
        ip: IpAddr,
    ) -> Option<RemoteClaim> {
        let id = self.installed_route(&shared.rib, vni, ip)?;
        let mac = HostMac::new(shared.rib.mac(id)?).ok()?;
        let attrs = shared.rib.best(id)?.attrs;
        let attributes = shared.rib.attributes();
        let info = attributes.path_info(attrs);
        Some(RemoteClaim {
            mac,
            nd: info.nd,
            sequence: info.mobility.sequence,
            stays: info.mobility.sticky
                || info.immutable
                || info.gateway
                || macs.is_sticky(shared, vni, mac),
        })
    }

    /// A local host claims an address by an ARP or ND message. Returns whether the host has it by
    /// configuration or has learned it.
    ///
    /// # Errors
    /// [`AddressError`]; nothing changes.
    pub(in crate::evpn) fn claim(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        now: Instant,
        vni: Vni,
        claim: AddressClaim,
    ) -> Result<LocalKind, AddressError> {
        let (mac, ip, at) = (claim.mac, claim.ip, (vni, claim.ip));
        if !macs.is_local(vni, mac) {
            return Err(AddressError::UnknownMac);
        }
        let remote = self.remote(shared, macs, vni, ip);
        let rival = remote.filter(|remote| remote.mac != mac);
        let fixed = self.statics.get(&at).map(|entry| entry.mac);
        let claims = self.local.get(&at);
        let holder = claims.and_then(|claims| claims.holder()).copied();
        let own = claims.and_then(|claims| claims.find(mac)).copied();
        let kind = own.map_or(LocalKind::Learned, |own| own.kind);
        if holder.is_none_or(|holder| holder.mac != mac) || own.is_none() {
            if kind == LocalKind::Learned {
                match (holder, fixed, rival) {
                    (Some(holder), ..) if holder.kind == LocalKind::Attached => {
                        return Err(AddressError::Attached(holder.mac));
                    }
                    (_, Some(fixed), _) if fixed != mac => return Err(AddressError::Static(fixed)),
                    (_, _, Some(rival)) if rival.stays => {
                        return Err(AddressError::Sticky(rival.mac));
                    }
                    _ => {}
                }
            }
            let before = holder.map(|holder| holder.mac).or(rival.map(|r| r.mac));
            self.move_here(shared, macs, now, vni, (mac, ip), before)?;
            let above = rival.map(|rival| next_sequence(rival.sequence));
            let other = holder.and_then(|holder| macs.local_sequence(vni, holder.mac));
            for least in above.into_iter().chain(other) {
                macs.raise_to(shared, vni, mac, least);
            }
        }
        let claims = self.local.entry(at).or_default();
        if holder.is_none_or(|holder| holder.mac != mac) {
            claims.claim(mac, claim.router);
        }
        // The flags of a host that has moved here are known from its route.
        let moved = remote.filter(|remote| remote.mac == mac && own.is_none());
        claims.set_flags(mac, claim.nd.or(moved.and_then(|remote| remote.nd)));
        macs.add_claim(vni, mac, ip);
        self.evaluate(shared, macs, vni, ip);
        Ok(kind)
    }

    /// An address moves from `before` to a local host, unless it has moved too often.
    fn move_here(
        &mut self,
        shared: &mut SharedState,
        macs: &EvpnMacTable,
        now: Instant,
        vni: Vni,
        (mac, ip): (HostMac, IpAddr),
        before: Option<HostMac>,
    ) -> Result<(), AddressError> {
        let Some(from) = before.filter(|before| *before != mac) else {
            return Ok(());
        };
        let claims = self.local.entry((vni, ip)).or_default();
        if !claims.may_move(&shared.config.duplicate, now) {
            return Err(AddressError::Frozen(from));
        }
        let sequence = macs.local_sequence(vni, mac).unwrap_or(0);
        shared.events.push(EvpnEvent::AddressMoved {
            vni,
            ip,
            from,
            to: mac,
            vtep: None,
            sequence,
        });
        Ok(())
    }

    /// The best route for an address has changed. A learned local address yields to it if the route
    /// is a new claim or has the higher sequence.
    pub(super) fn contest(
        &mut self,
        shared: &mut SharedState,
        macs: &EvpnMacTable,
        now: Instant,
        (vni, ip): (Vni, IpAddr),
        news: News,
    ) {
        let Some(remote) = self.remote(shared, macs, vni, ip) else {
            return;
        };
        let path = shared.rib.best(news.route);
        let vtep = path.and_then(|path| shared.vtep_of(path.attrs));
        let fixed = self.statics.get(&(vni, ip)).map(|entry| entry.mac);
        let claims = self.local.get_mut(&(vni, ip));
        let holder = claims.as_ref().and_then(|claims| claims.holder()).copied();
        let refused = match (holder, fixed) {
            (Some(holder), _) if holder.kind == LocalKind::Attached => {
                Some(AddressError::Attached(holder.mac)).filter(|_| holder.mac != remote.mac)
            }
            (_, Some(fixed)) => Some(AddressError::Static(fixed)).filter(|_| fixed != remote.mac),
            _ => None,
        };
        if let Some(error) = refused.filter(|_| news.changed) {
            shared.events.push(EvpnEvent::AddressRefused {
                vni,
                ip,
                mac: remote.mac,
                vtep,
                error,
            });
        }
        let (Some(holder), Some(claims)) = (holder, claims) else {
            return;
        };
        if holder.kind == LocalKind::Attached || holder.mac == remote.mac || fixed.is_some() {
            return;
        }
        let sequence = remote.sequence;
        let ours = macs.local_sequence(vni, holder.mac).unwrap_or(0);
        let later = news.is_new || compare_sequence(sequence, ours).is_gt();
        if !(remote.stays || later && claims.may_move(&shared.config.duplicate, now)) {
            return;
        }
        claims.set_yielded(true);
        shared.events.push(EvpnEvent::AddressMoved {
            vni,
            ip,
            from: holder.mac,
            to: remote.mac,
            vtep,
            sequence,
        });
    }
}
