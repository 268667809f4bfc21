//! Where the file names things that this host must have.

use vtep_dataplane::addr::VtepAddr;

use super::interface::InterfaceName;

/// What the host must have, each with the line that names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HostReferences {
    pub(super) addresses: Vec<(u32, VtepAddr)>,
    pub(super) underlay: Vec<(u32, InterfaceName)>,
    pub(super) cores: Vec<(u32, usize)>,
    pub(super) ports: Vec<(u32, InterfaceName)>,
}
