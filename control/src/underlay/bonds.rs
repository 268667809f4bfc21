//! Bonds: which of their members send, and which receive.
//!
//! In: IFLA_BOND_* and IFLA_BOND_SLAVE_* (include/uapi/linux/if_link.h). vtepd has its sockets on
//! the members, so that it chooses a member for each flow itself, as the bond's driver does for the
//! host's own packets (drivers/net/bonding/bond_main.c).

use netlink_packet_route::link::{
    BondAllPortActive, BondMode, BondPortState, InfoBond, InfoBondPort, MiiStatus,
};

/// A bond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bond {
    mode: BondMode,
    /// Index of the active member, in modes that have one.
    active: Option<u32>,
    /// Frames that arrive on inactive members are received too (`all_slaves_active`).
    all_receive: bool,
}

/// The state of a member of a bond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BondMember {
    /// The bond considers its link up: by its carrier or by ARP, after `updelay`.
    up: bool,
    /// It is not a backup: with 802.3ad, it belongs to the active aggregator and its partner collects.
    active: bool,
}

impl Bond {
    pub(super) fn read(data: &[InfoBond]) -> Self {
        let mut bond = Self {
            mode: BondMode::default(),
            active: None,
            all_receive: false,
        };
        for attribute in data {
            match attribute {
                InfoBond::Mode(mode) => bond.mode = *mode,
                InfoBond::ActivePort(index) => bond.active = Some(*index),
                InfoBond::AllPortsActive(all) => {
                    bond.all_receive = *all == BondAllPortActive::Delivered;
                }
                _ => {}
            }
        }
        bond
    }

    /// Its mode, if that requires more than the choice of one member for each frame.
    pub(super) fn unsupported_mode(&self) -> Option<String> {
        let unsupported = matches!(
            self.mode,
            BondMode::Broadcast | BondMode::BalanceAlb | BondMode::Other(_)
        );
        unsupported.then(|| self.mode.to_string())
    }

    /// Whether the member with this index is one that may send.
    pub(super) fn sends_on(&self, index: u32, member: Option<BondMember>) -> bool {
        let chosen = match self.mode {
            BondMode::ActiveBackup | BondMode::BalanceTlb => self.active == Some(index),
            _ => member.is_some_and(|member| member.active),
        };
        chosen && member.is_some_and(|member| member.up)
    }

    /// Whether the host ignores what this member receives: what a switch floods arrives on an active
    /// one too.
    pub(super) fn ignores(&self, index: u32, member: Option<BondMember>) -> bool {
        !self.all_receive
            && match self.mode {
                BondMode::ActiveBackup | BondMode::BalanceTlb => self.active != Some(index),
                BondMode::Ieee8023Ad => member.is_none_or(|member| !member.active),
                _ => false,
            }
    }
}

impl BondMember {
    pub(super) fn read(data: &[InfoBondPort]) -> Self {
        let has = |wanted: InfoBondPort| data.contains(&wanted);
        Self {
            up: has(InfoBondPort::MiiStatus(MiiStatus::Up)),
            active: has(InfoBondPort::BondPortState(BondPortState::Active)),
        }
    }
}
