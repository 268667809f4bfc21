//! Local MACs: their mobility sequences, and conflicts with other VTEPs that announce them (RFC
//! 7432 section 15).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::mobility::{MacCandidate, sequence_above};
use super::store::flag;
use super::{EvpnMacTable, MacTimer};
use crate::evpn::config::{LocalKind, LocalMac};
use crate::evpn::event::EvpnEvent;
use crate::evpn::shared::{ChangeCause, SharedState};
use crate::evpn::status::RouteStatus;
use crate::rib::{AttrId, BestPath, Ineligible, Mobility, compare_sequence, next_sequence};

/// Why a MAC can't be local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalMacError {
    /// The VNI is not configured.
    #[error("VNI {0} is not configured; add it first")]
    UnknownVni(Vni),
    /// The MAC of an address is not local.
    #[error("{1} has no local MAC entry in VNI {0}; add the MAC first")]
    UnknownMac(Vni, HostMac),
    /// Duplicate detection has frozen the MAC.
    #[error("{1} in VNI {0} is frozen because it moved too often; attach it, or unfreeze it")]
    Frozen(Vni, HostMac),
    /// Its VTEP announces that it never moves.
    #[error("{1} in VNI {0} is sticky at another VTEP; attach it if it is really here")]
    Sticky(Vni, HostMac),
    /// The MAC has a static entry.
    #[error("{1} in VNI {0} has a static entry; remove that first")]
    Static(Vni, HostMac),
}

/// A local MAC.
#[derive(Debug)]
pub(super) struct LocalMacState {
    kind: LocalKind,
    sticky: bool,
    sequence: u32,
    addresses: BTreeSet<IpAddr>,
    /// The VTEP that contests it and its sequence, as last reported.
    contested: Option<(VtepAddr, u32)>,
}

impl LocalMacState {
    pub(super) const fn mobility(&self) -> Mobility {
        Mobility {
            sticky: self.sticky,
            sequence: self.sequence,
        }
    }
}

/// Changes by the owner of the ports.
impl EvpnMacTable {
    /// Adds a local MAC, or changes it, and originates its routes.
    ///
    /// # Errors
    /// [`LocalMacError`]; nothing changes. An attached MAC is refused only if the VNI is unknown.
    pub(in crate::evpn) fn add_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
        LocalMac { kind, sticky }: LocalMac,
    ) -> Result<(), LocalMacError> {
        if !shared.vrfs.contains(vni) {
            return Err(LocalMacError::UnknownVni(vni));
        }
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            if kind == LocalKind::Attached {
                (state.kind, state.sticky) = (kind, sticky);
                self.advertise(shared, vni, mac);
            }
            return Ok(());
        }
        self.check_local(shared, now, vni, mac, kind)?;
        let place = self.entries.find(vni, mac);
        let sequence = place.map_or(0, |place| self.sequence_for(shared, place));
        let state = LocalMacState {
            kind,
            sticky,
            sequence,
            addresses: BTreeSet::new(),
            contested: None,
        };
        self.locals.insert((vni, mac), state);
        if let Some(place) = place {
            let entry = self.entries.get_mut(place);
            entry.flags |= flag::LOCAL;
            if let Some(from) = entry.selected().and_then(|attrs| shared.vtep_of(attrs)) {
                shared.events.push(EvpnEvent::Moved {
                    vni,
                    mac,
                    from: Some(from),
                    to: None,
                    sequence,
                });
            }
        }
        self.advertise(shared, vni, mac);
        Ok(())
    }

    /// Whether a MAC may become local. Attaching a MAC unfreezes it; learning it from frames is
    /// refused where a static entry, duplicate detection or a sticky route has priority.
    fn check_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
        kind: LocalKind,
    ) -> Result<(), LocalMacError> {
        if kind == LocalKind::Attached {
            self.unfreeze(shared, now, vni, mac);
            return Ok(());
        }
        if self.statics.contains_key(&(vni, mac)) {
            return Err(LocalMacError::Static(vni, mac));
        }
        if self.duplicates.is_frozen((vni, mac)) {
            return Err(LocalMacError::Frozen(vni, mac));
        }
        let place = self.entries.find(vni, mac);
        let Some(selected) = place.and_then(|place| self.entries.get(place).selected()) else {
            return Ok(());
        };
        let info = shared.rib.attributes().path_info(selected);
        if info.mobility.sticky {
            return Err(LocalMacError::Sticky(vni, mac));
        }
        if self.record_move(shared, now, vni, mac) {
            Err(LocalMacError::Frozen(vni, mac))
        } else {
            Ok(())
        }
    }

    /// Removes a local MAC with its addresses and routes, if it is local. The next entry by
    /// priority is installed.
    pub(in crate::evpn) fn remove_local(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
    ) {
        if self.drop_local(shared, vni, mac) {
            self.set_flag(vni, mac, flag::LOCAL, false);
            self.reinstall(shared, vni, mac);
        }
    }

    /// Removes a local MAC, but leaves its table entry. False if it is not local.
    fn drop_local(&mut self, shared: &mut SharedState, vni: Vni, mac: HostMac) -> bool {
        self.withdraw(shared, vni, mac);
        let Some(state) = self.locals.remove(&(vni, mac)) else {
            return false;
        };
        let released = state.addresses.into_iter().map(|ip| (vni, ip));
        self.affected.released.extend(released);
        true
    }

    /// True if the MAC is local.
    pub(in crate::evpn) fn is_local(&self, vni: Vni, mac: HostMac) -> bool {
        self.locals.contains_key(&(vni, mac))
    }

    /// The local MACs of a VNI.
    pub(in crate::evpn) fn locals_of(&self, vni: Vni) -> Vec<HostMac> {
        let all = self.locals.keys().filter(|(of, _)| *of == vni);
        all.map(|(_, mac)| *mac).collect()
    }

    /// Adds an address to a local MAC, and originates the route for it.
    pub(in crate::evpn) fn add_address(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
    ) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.addresses.insert(ip);
        }
        self.advertise(shared, vni, mac);
    }

    /// Removes an address from a local MAC, and withdraws the route for it.
    pub(in crate::evpn) fn remove_address(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
    ) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.addresses.remove(&ip);
        }
        shared.originated.withdraw(vni, mac, Some(ip));
    }

    /// Originates the routes of a local MAC and its addresses as they are now.
    pub(in crate::evpn) fn advertise(&self, shared: &mut SharedState, vni: Vni, mac: HostMac) {
        if let Some(local) = self.locals.get(&(vni, mac)) {
            let (mobility, addresses) = (local.mobility(), local.addresses.iter());
            shared.originated.advertise(vni, mac, mobility, addresses);
        }
    }

    /// Withdraws the routes of a local MAC.
    pub(in crate::evpn) fn withdraw(&self, shared: &mut SharedState, vni: Vni, mac: HostMac) {
        if let Some(local) = self.locals.get(&(vni, mac)) {
            for ip in local.addresses.iter().map(|ip| Some(*ip)).chain([None]) {
                shared.originated.withdraw(vni, mac, ip);
            }
        }
    }

    /// The sequence with which a MAC becomes local, derived from its routes.
    fn sequence_for(&self, shared: &SharedState, place: u32) -> u32 {
        let vni = self.entries.get(place).vni;
        let paths = self.entries.routes(place);
        let paths = paths.flat_map(|id| shared.rib.views(id));
        let counts = |attrs: AttrId| {
            matches!(
                shared.usable(vni, attrs),
                Ok(())
                    | Err(RouteStatus::Ineligible(
                        Ineligible::OwnNextHop | Ineligible::Looped
                    ))
            )
        };
        let seen = paths.filter(|path| counts(path.attrs)).map(|path| {
            let info = shared.rib.attributes().path_info(path.attrs);
            let ours = info.next_hop == shared.config.vtep.get();
            (info.mobility.sequence, ours)
        });
        sequence_above(seen)
    }
}

/// Conflicts with other VTEPs.
impl EvpnMacTable {
    /// The path of another VTEP that beats a local MAC, if one does.
    fn beaten_by(&self, shared: &SharedState, place: u32) -> Option<MacCandidate> {
        let entry = self.entries.get(place);
        let state = self.locals.get(&(entry.vni, entry.mac()))?;
        let ours = MacCandidate {
            long_lived: false,
            mobility: state.mobility(),
            vtep: shared.config.vtep.get(),
        };
        let info = shared.rib.attributes().path_info(entry.selected()?);
        let theirs = MacCandidate::new(info, entry.has(flag::LONG_LIVED));
        theirs.compare(&ours).is_gt().then_some(theirs)
    }

    /// Another VTEP announces a local MAC with a new path.
    pub(super) fn contest_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        cause: ChangeCause,
    ) {
        let Some(theirs) = self.beaten_by(shared, place) else {
            return;
        };
        let entry = *self.entries.get(place);
        let (vni, mac) = (entry.vni, entry.mac());
        let Ok(vtep) = VtepAddr::new(theirs.vtep) else {
            return;
        };
        let sequence = theirs.mobility.sequence;
        let Some(state) = self.locals.get_mut(&(vni, mac)) else {
            return;
        };
        if state.kind == LocalKind::Learned {
            return self.learned_moved_away(shared, now, place, vtep, sequence);
        }
        if state.contested.replace((vtep, sequence)) != Some((vtep, sequence)) {
            shared.events.push(EvpnEvent::Contested {
                vni,
                mac,
                vtep,
                sequence,
            });
        }
        // No sequence wins against a sticky MAC, and a sticky local MAC needs none.
        if theirs.mobility.sticky || state.sticky {
            return;
        }
        if cause == (ChangeCause::Announced { initial: true }) {
            self.claim_back(shared, now, vni, mac);
        } else {
            let at = now + shared.config.claim_back;
            self.timers.insert((at, MacTimer::ClaimBack(vni, mac)));
        }
    }

    /// A MAC that was learned from frames is behind another VTEP now.
    fn learned_moved_away(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        vtep: VtepAddr,
        sequence: u32,
    ) {
        let entry = *self.entries.get(place);
        let (vni, mac) = (entry.vni, entry.mac());
        if entry.has(flag::FROZEN) || self.record_move(shared, now, vni, mac) {
            return;
        }
        self.drop_local(shared, vni, mac);
        self.entries.get_mut(place).flags &= !flag::LOCAL;
        shared
            .events
            .push(EvpnEvent::LearnedGone { vni, mac, vtep });
        shared.events.push(EvpnEvent::Moved {
            vni,
            mac,
            from: None,
            to: Some(vtep),
            sequence,
        });
        self.publish(shared, place);
    }

    /// Claims back a MAC that is attached here and that another VTEP still announces, with a higher
    /// sequence. If two VTEPs keep claiming a MAC, duplicate detection freezes it.
    pub(super) fn claim_back(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
    ) {
        let Some(place) = self.entries.find(vni, mac) else {
            return;
        };
        if self.entries.get(place).has(flag::FROZEN)
            || self.beaten_by(shared, place).is_none()
            || self.record_move(shared, now, vni, mac)
        {
            return;
        }
        let sequence = self.sequence_for(shared, place);
        self.raise_sequence(shared, place, sequence);
    }

    fn raise_sequence(&mut self, shared: &mut SharedState, place: u32, sequence: u32) {
        let entry = *self.entries.get(place);
        let (vni, mac) = (entry.vni, entry.mac());
        let from = entry.selected().and_then(|attrs| shared.vtep_of(attrs));
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.sequence = sequence;
            state.contested = None;
            shared.events.push(EvpnEvent::Moved {
                vni,
                mac,
                from,
                to: None,
                sequence,
            });
            self.advertise(shared, vni, mac);
        }
    }

    /// A route of this VTEP came back from a peer. If its sequence is above the current one, it is
    /// from before a restart: peers that ignore lower sequences would ignore the current routes.
    pub(super) fn check_own_route(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        path: BestPath,
    ) {
        let entry = *self.entries.get(place);
        if !entry.has(flag::LOCAL) {
            return;
        }
        let info = *shared.rib.attributes().path_info(path.attrs);
        if info.next_hop != shared.config.vtep.get() {
            return;
        }
        let sequence = info.mobility.sequence;
        let (vni, mac) = (entry.vni, entry.mac());
        let Some(state) = self.locals.get(&(vni, mac)) else {
            return;
        };
        if compare_sequence(sequence, state.sequence).is_gt()
            && !self.record_move(shared, now, vni, mac)
        {
            self.raise_sequence(shared, place, next_sequence(sequence));
        }
    }
}
