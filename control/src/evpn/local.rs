//! MacTable of ours, and static entries: what is stronger than any route.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::change::{EntryOrigin, EvpnEvent, RouteStatus, TableChange};
use super::config::{LocalKind, LocalMac};
use super::mac_table::flag;
use super::mobility::{MacCandidate, sequence_here};
use super::speaker::{ChangeCause, EvpnSpeaker, TimerTask};
use crate::rib::{AttrId, BestPath, Mobility, compare_sequence, next_sequence};

/// Why a host can't be local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalMacError {
    /// The VNI is not there.
    #[error("VNI {0} is not configured; add it first")]
    UnknownVni(Vni),
    /// The address needs its host first.
    #[error("{1} has no local MAC entry in VNI {0}; add the MAC first")]
    UnknownMac(Vni, HostMac),
    /// It moved too often.
    #[error("{1} in VNI {0} is frozen because it moved too often; attach it, or clear it")]
    Frozen(Vni, HostMac),
    /// It never moves, says its VTEP.
    #[error("{1} in VNI {0} is sticky at another VTEP; attach it if it is really here")]
    Sticky(Vni, HostMac),
    /// Static configuration says where it is.
    #[error("{1} in VNI {0} has a static entry; remove that first")]
    Static(Vni, HostMac),
}

/// A local MAC.
#[derive(Debug)]
pub(super) struct LocalState {
    pub(super) kind: LocalKind,
    pub(super) sticky: bool,
    pub(super) sequence: u32,
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Who claims it, as told last.
    contested: Option<(VtepAddr, u32)>,
}

impl LocalState {
    pub(super) const fn mobility(&self) -> Mobility {
        Mobility {
            sticky: self.sticky,
            sequence: self.sequence,
        }
    }
}

impl EvpnSpeaker {
    /// A host is on a port of ours. Its entry in the MAC table is the caller's; routes for it are announced.
    ///
    /// # Errors
    /// [`LocalMacError`]; nothing changes. An attached host is refused only if the VNI is unknown.
    pub fn local_mac_add(
        &mut self,
        now: Instant,
        vni: Vni,
        mac: HostMac,
        local: LocalMac,
    ) -> Result<(), LocalMacError> {
        let at = (vni, mac);
        if !self.mac_vrfs.contains_key(&vni) {
            return Err(LocalMacError::UnknownVni(vni));
        }
        if let Some(state) = self.locals.get_mut(&at) {
            if local.kind == LocalKind::Attached {
                (state.kind, state.sticky) = (local.kind, local.sticky);
                self.advertise(vni, mac);
            }
            return Ok(());
        }
        self.may_be_local(now, at, local.kind)?;
        let place = self.hosts.find(vni, mac);
        let sequence = place.map_or(0, |place| self.sequence_for(place));
        let LocalMac { kind, sticky } = local;
        let state = LocalState {
            kind,
            sticky,
            sequence,
            addresses: BTreeSet::new(),
            contested: None,
        };
        self.locals.insert(at, state);
        if let Some(place) = place {
            let host = self.hosts.get_mut(place);
            host.flags |= flag::LOCAL;
            if let Some(from) = host.winner().and_then(|attrs| self.vtep_of(attrs)) {
                self.events.push(EvpnEvent::Moved {
                    vni,
                    mac,
                    from: Some(from),
                    to: None,
                    sequence,
                });
            }
        }
        self.advertise(vni, mac);
        Ok(())
    }

    /// An operator's word ends a freeze; frames are believed only where nothing speaks against it.
    fn may_be_local(
        &mut self,
        now: Instant,
        at: (Vni, HostMac),
        kind: LocalKind,
    ) -> Result<(), LocalMacError> {
        let (vni, mac) = at;
        if kind == LocalKind::Attached {
            self.unfreeze(now, vni, mac);
            return Ok(());
        }
        if self.static_macs.contains_key(&at) {
            return Err(LocalMacError::Static(vni, mac));
        }
        if self.duplicates.is_frozen(at) {
            return Err(LocalMacError::Frozen(vni, mac));
        }
        let winner = self
            .hosts
            .find(vni, mac)
            .and_then(|place| self.hosts.get(place).winner());
        let Some(winner) = winner else { return Ok(()) };
        if self.rib.attributes().path_info(winner).mobility.sticky {
            return Err(LocalMacError::Sticky(vni, mac));
        }
        if self.moved(now, vni, mac) {
            Err(LocalMacError::Frozen(vni, mac))
        } else {
            Ok(())
        }
    }

    /// The sequence that makes a MAC ours, by what its routes say.
    fn sequence_for(&self, place: u32) -> u32 {
        let vni = self.hosts.get(place).vni;
        let views = self.hosts.routes(place).flat_map(|id| self.rib.views(id));
        let ours = |attrs: AttrId| {
            self.rib.attributes().path_info(attrs).next_hop == self.config.vtep.get()
        };
        let counts = |attrs: AttrId| {
            matches!(
                self.usable(vni, attrs),
                Ok(()) | Err(RouteStatus::OwnNextHop | RouteStatus::Looped)
            )
        };
        let seen = views.filter(|view| counts(view.attrs)).map(|view| {
            (
                self.rib
                    .attributes()
                    .path_info(view.attrs)
                    .mobility
                    .sequence,
                ours(view.attrs),
            )
        });
        sequence_here(seen)
    }

    /// A host left our ports. Who else has it takes over, or its entry goes.
    pub fn local_mac_del(&mut self, vni: Vni, mac: HostMac) {
        if !self.drop_local(vni, mac) {
            return;
        }
        match self.hosts.find(vni, mac) {
            Some(place) => {
                self.hosts.get_mut(place).flags &= !flag::LOCAL;
                self.retell_mac(vni, mac);
            }
            None => self.retell_mac(vni, mac),
        }
    }

    /// Forgets a local MAC with its addresses and routes. False if it is not local.
    pub(super) fn drop_local(&mut self, vni: Vni, mac: HostMac) -> bool {
        self.stop_advertising(vni, mac);
        let Some(state) = self.locals.remove(&(vni, mac)) else {
            return false;
        };
        for ip in state.addresses {
            self.local_addresses.remove(&(vni, ip));
            self.retell_address(vni, ip);
        }
        true
    }

    /// A local host has an address: a second route for it is announced, and requests for it are answered.
    ///
    /// # Errors
    /// [`LocalMacError::UnknownMac`]; nothing changes.
    pub fn local_address_add(
        &mut self,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
    ) -> Result<(), LocalMacError> {
        if !self.locals.contains_key(&(vni, mac)) {
            return Err(LocalMacError::UnknownMac(vni, mac));
        }
        match self.local_addresses.insert((vni, ip), mac) {
            Some(old) if old == mac => return Ok(()),
            Some(old) => self.take_address(vni, old, ip),
            None => {}
        }
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.addresses.insert(ip);
        }
        self.retell_address(vni, ip);
        self.advertise(vni, mac);
        Ok(())
    }

    /// A local host no longer has an address.
    pub fn local_address_del(&mut self, vni: Vni, ip: IpAddr) {
        if let Some(mac) = self.local_addresses.remove(&(vni, ip)) {
            self.take_address(vni, mac, ip);
            self.retell_address(vni, ip);
        }
    }

    fn take_address(&mut self, vni: Vni, mac: HostMac, ip: IpAddr) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.addresses.remove(&ip);
        }
        self.withdraw_host(vni, mac, Some(ip));
    }

    /// Static configuration says where a MAC is.
    pub fn static_mac_add(&mut self, vni: Vni, mac: HostMac, vtep: VtepAddr) {
        self.static_macs.insert((vni, mac), vtep);
        if let Some(place) = self.hosts.find(vni, mac) {
            self.hosts.get_mut(place).flags |= flag::STATIC;
        }
        self.retell_mac(vni, mac);
    }

    /// Static configuration no longer says so.
    pub fn static_mac_del(&mut self, vni: Vni, mac: HostMac) {
        if self.static_macs.remove(&(vni, mac)).is_some() {
            if let Some(place) = self.hosts.find(vni, mac) {
                self.hosts.get_mut(place).flags &= !flag::STATIC;
            }
            self.retell_mac(vni, mac);
        }
    }

    /// Static configuration says who has an address.
    pub fn static_address_add(&mut self, vni: Vni, ip: IpAddr, mac: HostMac, router: bool) {
        self.static_addresses.insert((vni, ip), (mac, router));
        self.retell_address(vni, ip);
    }

    /// Static configuration no longer says so.
    pub fn static_address_del(&mut self, vni: Vni, ip: IpAddr) {
        if self.static_addresses.remove(&(vni, ip)).is_some() {
            self.retell_address(vni, ip);
        }
    }

    /// Removes all static entries of a VNI: MACs, addresses and flood list.
    pub fn statics_del(&mut self, vni: Vni) {
        let macs: Vec<_> = self
            .static_macs
            .keys()
            .filter(|(of, _)| *of == vni)
            .map(|(_, mac)| *mac)
            .collect();
        macs.into_iter()
            .for_each(|mac| self.static_mac_del(vni, mac));
        let addresses = self.static_addresses.keys().filter(|(of, _)| *of == vni);
        let addresses: Vec<_> = addresses.map(|(_, ip)| *ip).collect();
        addresses
            .into_iter()
            .for_each(|ip| self.static_address_del(vni, ip));
        let flooded: Vec<_> = self
            .flood_list(vni)
            .filter(|(_, _, fixed)| *fixed)
            .map(|(vtep, _, _)| vtep)
            .collect();
        flooded
            .into_iter()
            .for_each(|vtep| self.static_flood_del(vni, vtep));
    }

    /// Tells what the strongest of all origins says of a MAC.
    fn retell_mac(&mut self, vni: Vni, mac: HostMac) {
        if self.locals.contains_key(&(vni, mac)) {
            return;
        }
        let fixed = self
            .static_macs
            .get(&(vni, mac))
            .map(|vtep| (*vtep, EntryOrigin::Static));
        let best = fixed.or_else(|| {
            self.evpn_vtep(vni, mac)
                .map(|vtep| (vtep, EntryOrigin::Evpn))
        });
        self.changes.push(match best {
            Some((vtep, origin)) => TableChange::MacSet {
                vni,
                mac,
                vtep,
                origin,
            },
            None => TableChange::MacDel { vni, mac },
        });
    }
}

/// Claims of others to hosts of ours.
impl EvpnSpeaker {
    /// The claim of another VTEP that beats ours, if one does.
    fn beaten_by(&self, place: u32) -> Option<MacCandidate> {
        let host = self.hosts.get(place);
        let state = self.locals.get(&(host.vni, host.mac()))?;
        let ours = MacCandidate {
            long_lived: false,
            mobility: state.mobility(),
            vtep: self.config.vtep.get(),
        };
        let info = self.rib.attributes().path_info(host.winner()?);
        let theirs = MacCandidate::new(info, host.has(flag::LONG_LIVED));
        theirs.rank(&ours).is_gt().then_some(theirs)
    }

    /// Another VTEP has a new claim to a MAC of ours.
    pub(super) fn contested(&mut self, now: Instant, place: u32, cause: ChangeCause) {
        let Some(claim) = self.beaten_by(place) else {
            return;
        };
        let host = *self.hosts.get(place);
        let (vni, mac) = (host.vni, host.mac());
        let Ok(vtep) = VtepAddr::new(claim.vtep) else {
            return;
        };
        let sequence = claim.mobility.sequence;
        let Some(state) = self.locals.get_mut(&(vni, mac)) else {
            return;
        };
        if state.kind == LocalKind::Learned {
            return self.learned_gone(now, place, vtep, sequence);
        }
        if state.contested.replace((vtep, sequence)) != Some((vtep, sequence)) {
            self.events.push(EvpnEvent::Contested {
                vni,
                mac,
                vtep,
                sequence,
            });
        }
        let Some(state) = self.locals.get(&(vni, mac)) else {
            return;
        };
        // Against a sticky MAC no sequence helps, and a sticky MAC of ours needs none.
        if claim.mobility.sticky || state.sticky {
            return;
        }
        if cause == (ChangeCause::Announced { initial: true }) {
            self.claim_back(now, vni, mac);
        } else {
            self.tasks
                .insert((now + self.config.claim_back, TimerTask::ClaimBack(vni, mac)));
        }
    }

    fn learned_gone(&mut self, now: Instant, place: u32, vtep: VtepAddr, sequence: u32) {
        let host = *self.hosts.get(place);
        let (vni, mac) = (host.vni, host.mac());
        if host.has(flag::FROZEN) || self.moved(now, vni, mac) {
            return;
        }
        self.drop_local(vni, mac);
        self.hosts.get_mut(place).flags &= !flag::LOCAL;
        self.events.push(EvpnEvent::LearnedGone { vni, mac, vtep });
        self.events.push(EvpnEvent::Moved {
            vni,
            mac,
            from: None,
            to: Some(vtep),
            sequence,
        });
        self.tell(place);
    }

    /// Claims a MAC back that is attached here and that another VTEP still claims, with a higher sequence. Two VTEPs
    /// that both insist end as duplicates.
    pub(super) fn claim_back(&mut self, now: Instant, vni: Vni, mac: HostMac) {
        let Some(place) = self.hosts.find(vni, mac) else {
            return;
        };
        if self.hosts.get(place).has(flag::FROZEN)
            || self.beaten_by(place).is_none()
            || self.moved(now, vni, mac)
        {
            return;
        }
        let sequence = self.sequence_for(place);
        self.raise(place, sequence);
    }

    fn raise(&mut self, place: u32, sequence: u32) {
        let host = *self.hosts.get(place);
        let (vni, mac) = (host.vni, host.mac());
        let from = host.winner().and_then(|attrs| self.vtep_of(attrs));
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.sequence = sequence;
            state.contested = None;
            self.events.push(EvpnEvent::Moved {
                vni,
                mac,
                from,
                to: None,
                sequence,
            });
            self.advertise(vni, mac);
        }
    }

    /// A route of ours came back. If its sequence is above what we say now, it is from before a restart: peers that
    /// drop lower sequences would drop ours.
    pub(super) fn own_seen(&mut self, now: Instant, place: u32, seen: BestPath) {
        if !self.hosts.get(place).has(flag::LOCAL) {
            return;
        }
        let host = *self.hosts.get(place);
        let info = *self.rib.attributes().path_info(seen.attrs);
        if info.next_hop != self.config.vtep.get() {
            return;
        }
        let sequence = info.mobility.sequence;
        let Some(state) = self.locals.get(&(host.vni, host.mac())) else {
            return;
        };
        if compare_sequence(sequence, state.sequence).is_gt()
            && !self.moved(now, host.vni, host.mac())
        {
            self.raise(place, next_sequence(sequence));
        }
    }
}
