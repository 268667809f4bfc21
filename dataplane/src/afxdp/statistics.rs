//! Statistics of sockets, as the kernel counts them.

use crate::frame::buffer::Owner;

/// Identifies an open socket to [`super::Umem::statistics`]. Invalid once the port is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketId(pub(super) Owner);

/// The kernel's counters of one socket (`XDP_STATISTICS`, Documentation/networking/af_xdp.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Frames dropped by the kernel: the fill ring had no chunk for them; or, of a socket that takes
    /// frames of one chunk only, they are longer.
    pub rx_dropped: u64,
    /// Frames dropped because the rx ring was full: the worker is too slow.
    pub rx_ring_full: u64,
    /// Number of times that the kernel found the fill ring empty. The frames are in `rx_dropped`; with
    /// zero-copy they stay with the driver, or are lost there.
    pub fill_ring_empty: u64,
    /// Fill ring entries that the kernel rejected.
    pub rx_invalid: u64,
    /// Transmit descriptors that the kernel rejected.
    pub tx_invalid: u64,
    /// Number of times that the kernel found the tx ring empty.
    pub tx_ring_empty: u64,
}

impl From<libc::xdp_statistics> for Statistics {
    fn from(kernel: libc::xdp_statistics) -> Self {
        Self {
            rx_dropped: kernel.rx_dropped,
            rx_ring_full: kernel.rx_ring_full,
            fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            rx_invalid: kernel.rx_invalid_descs,
            tx_invalid: kernel.tx_invalid_descs,
            tx_ring_empty: kernel.tx_ring_empty_descs,
        }
    }
}

impl std::ops::Add for Statistics {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            rx_dropped: self.rx_dropped + more.rx_dropped,
            rx_ring_full: self.rx_ring_full + more.rx_ring_full,
            fill_ring_empty: self.fill_ring_empty + more.fill_ring_empty,
            rx_invalid: self.rx_invalid + more.rx_invalid,
            tx_invalid: self.tx_invalid + more.tx_invalid,
            tx_ring_empty: self.tx_ring_empty + more.tx_ring_empty,
        }
    }
}
