//! Static entries: from the configuration or the control socket.

use std::net::IpAddr;

use vtep_dataplane::addr::Vni;

use super::{EvpnNeighborEntry, EvpnNeighborTable};
use crate::evpn::mac_table::EvpnMacTable;
use crate::evpn::shared::SharedState;

impl EvpnNeighborTable {
    /// Adds a static entry, or changes it.
    pub(in crate::evpn) fn set_static(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        vni: Vni,
        ip: IpAddr,
        entry: EvpnNeighborEntry,
    ) {
        self.statics.insert((vni, ip), entry);
        self.evaluate(shared, macs, vni, ip);
    }

    /// Removes a static entry, if there is one.
    pub(in crate::evpn) fn remove_static(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        vni: Vni,
        ip: IpAddr,
    ) {
        if self.statics.remove(&(vni, ip)).is_some() {
            self.evaluate(shared, macs, vni, ip);
        }
    }

    /// The addresses of a VNI with a static entry.
    pub(in crate::evpn) fn statics_of(&self, vni: Vni) -> Vec<IpAddr> {
        let from = (vni, IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let all = self.statics.range(from..);
        let all = all.take_while(|((of, _), _)| *of == vni);
        all.map(|((_, ip), _)| *ip).collect()
    }
}
