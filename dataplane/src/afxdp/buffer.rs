//! How much of a chunk a driver lets its device write in zero-copy mode, and whether a whole frame
//! fits.
//!
//! The kernel offers a chunk without its headroom (`xsk_pool_get_rx_frame_size`,
//! include/net/xdp_sock_drv.h), of which each driver uses what it can. If a frame is longer than
//! that, igb and igc give each buffer to the XDP program as a frame of its own: the program and the
//! host would read bytes from the middle of a tenant's frame as an Ethernet header.

/// Bytes of a frame that the MTU does not count: Ethernet header, two VLAN tags and the frame check
/// sequence.
pub(super) const FRAMING: u32 = 14 + 2 * 4 + 4;

/// Length of the frame check sequence, bytes, which no driver here leaves in a frame.
const FCS: u32 = 4;

/// `XDP_PACKET_HEADROOM` (include/uapi/linux/bpf.h).
const HEADROOM: u32 = 256;

/// The unit of drivers that round, bytes: `SRRCTL.BSIZEPKT` counts in 1 KiB (igb_setup_srrctl,
/// igc_configure_rx_ring, ixgbe_configure_srrctl for the 82599).
const ROUNDED_TO: u32 = 1024;

/// How a driver sizes a receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizing {
    /// All that the kernel offers, in units of 128 bytes or less.
    Exact,
    /// All but this many bytes.
    Less(u32),
    /// Whole KiB.
    Rounded,
}

impl Sizing {
    /// An unknown driver is assumed to round: a wrong assumption costs zero-copy, the opposite one
    /// would lose frames.
    fn of(driver: &str) -> Self {
        match driver {
            // DBUFF in units of 128 bytes (i40e_configure_rx_ring, ice_setup_rx_ctx); the others
            // check the MTU themselves.
            "i40e" | "ice" | "idpf" | "mlx5_core" => Self::Exact,
            // `struct skb_shared_info` at the end of each buffer (virtnet_add_recvbuf_xsk).
            "virtio_net" => Self::Less(320),
            _ => Self::Rounded,
        }
    }

    /// Bytes of a frame that fit into a chunk of `chunk_size` bytes.
    const fn buffer(self, chunk_size: u32) -> u32 {
        let offered = chunk_size.saturating_sub(HEADROOM);
        match self {
            Self::Exact => offered,
            Self::Less(bytes) => offered.saturating_sub(bytes),
            Self::Rounded => offered / ROUNDED_TO * ROUNDED_TO,
        }
    }
}

/// The longest frame that the MTU permits, as an XDP program sees it (bytes), if the driver may
/// deliver the buffers of a longer one separately; `None` if it does not.
pub(super) fn longest_before_split(driver: &str, mtu: u32) -> Option<u32> {
    (Sizing::of(driver) == Sizing::Rounded).then_some(mtu + FRAMING - FCS)
}

/// Why an interface is not bound zero-copy: its frames do not fit into a buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "interface {interface}: no zero-copy: a frame at MTU {mtu} takes up to {frame} bytes, \
     and the driver {driver} receives {buffer} bytes into a chunk of {chunk_size}; {remedy}",
    frame = mtu + FRAMING,
    remedy = self.remedy()
)]
pub struct Misfit {
    /// Name of the interface.
    pub interface: String,
    /// Its driver.
    pub driver: String,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Bytes of a frame that the driver puts into one chunk.
    pub buffer: u32,
    /// Bytes of a chunk.
    pub chunk_size: u32,
}

impl Misfit {
    /// `None` where a frame fits into a chunk of `chunk_size` bytes.
    pub(super) fn of(interface: &str, driver: &str, mtu: u32, chunk_size: u32) -> Option<Self> {
        let buffer = Sizing::of(driver).buffer(chunk_size);
        let (interface, driver) = (interface.to_owned(), driver.to_owned());
        (mtu + FRAMING > buffer).then_some(Self {
            interface,
            driver,
            mtu,
            buffer,
            chunk_size,
        })
    }

    fn remedy(&self) -> String {
        let largest = Sizing::of(&self.driver).buffer(4096);
        if self.chunk_size < 4096 && self.mtu + FRAMING <= largest {
            return "set [vtep.afxdp] frame-size = 4096".to_owned();
        }
        let mtu = largest - FRAMING;
        if self.chunk_size < 4096 {
            format!("set [vtep.afxdp] frame-size = 4096 and an MTU of at most {mtu}")
        } else {
            format!("set an MTU of at most {mtu}, or [vtep.afxdp] mode = \"copy\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_driver_uses_its_part_of_a_chunk() {
        for (driver, small, large) in [
            ("igb", 1024, 3072),
            ("igc", 1024, 3072),
            ("ixgbe", 1024, 3072),
            ("no-such-driver", 1024, 3072),
            ("", 1024, 3072),
            ("ice", 1792, 3840),
            ("i40e", 1792, 3840),
            ("virtio_net", 1472, 3520),
        ] {
            let sizing = Sizing::of(driver);
            assert_eq!(
                (sizing.buffer(2048), sizing.buffer(4096)),
                (small, large),
                "{driver}"
            );
        }
    }

    /// (finding N2)
    #[test]
    fn a_frame_fits_with_its_header_two_tags_and_the_check_sequence_or_not_at_all() {
        for (driver, chunk_size, largest) in [
            ("igb", 2048, 998),
            ("igb", 4096, 3046),
            ("ice", 2048, 1766),
            ("virtio_net", 2048, 1446),
        ] {
            assert_eq!(
                Misfit::of("eth0", driver, largest, chunk_size),
                None,
                "{driver} {chunk_size}"
            );
            assert!(
                Misfit::of("eth0", driver, largest + 1, chunk_size).is_some(),
                "{driver} {chunk_size}"
            );
        }
    }

    #[test]
    fn a_misfit_names_interface_mtu_buffer_and_a_remedy_that_helps() {
        let text = |mtu, chunk_size| {
            Misfit::of("eth0", "igb", mtu, chunk_size)
                .unwrap()
                .to_string()
        };
        let usual = text(1600, 2048);
        for part in [
            "eth0",
            "MTU 1600",
            "1626 bytes",
            "igb",
            "1024 bytes",
            "chunk of 2048",
            "frame-size = 4096",
        ] {
            assert!(usual.contains(part), "{part} is missing in: {usual}");
        }
        assert!(
            text(9000, 2048)
                .ends_with("set [vtep.afxdp] frame-size = 4096 and an MTU of at most 3046")
        );
        let jumbo = text(9000, 4096);
        assert!(
            jumbo.ends_with("set an MTU of at most 3046, or [vtep.afxdp] mode = \"copy\""),
            "{jumbo}"
        );
        assert_eq!(Misfit::of("eth0", "igb", 3046, 4096), None);
    }

    #[test]
    fn only_drivers_that_may_split_frames_are_watched_for_it() {
        assert_eq!(longest_before_split("igb", 1500), Some(1522));
        assert_eq!(longest_before_split("ice", 1500), None);
    }
}
