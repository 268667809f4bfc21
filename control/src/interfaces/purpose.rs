//! What an interface is used for.

/// What an interface is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Carries VXLAN.
    Underlay,
    /// Has one tenant port.
    Tenant,
    /// Has a tenant port for each of its VLANs.
    Trunk,
}
