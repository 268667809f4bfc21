//! The XDP programs of vtepd (`vtep.bpf.c`), loaded for one device at a time.
//!
//! The data plane attaches them and opens the AF_XDP sockets; this crate needs no `unsafe`.

pub mod generate;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// libbpf's error, with its chain of causes.
pub use libbpf_rs::Error;
use libbpf_rs::{ErrorExt, MapCore, MapFlags, Object, ObjectBuilder};

/// The compiled programs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vtep.bpf.o"));

/// Load-time flag of a program that belongs to one device (include/uapi/linux/bpf.h).
const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

/// Load-time flag of a program that supports frames of several buffers: Linux 5.18 or later.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// The programs, by what they do with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// VXLAN to a local endpoint goes to the queue's socket, everything else to the host stack.
    Underlay,
    /// Every frame goes to the queue's socket, or is dropped.
    Tenant,
    /// As [`Kind::Tenant`], and restores an 802.1Q tag that the driver has stripped. The program is
    /// bound to the device with this interface index: it needs native XDP, and a driver that can
    /// report the tag.
    TenantTrunk {
        /// Index of the interface.
        ifindex: u32,
    },
}

/// One loaded instance of the programs, with its own maps.
#[derive(Debug)]
pub struct Programs {
    object: Object,
    name: &'static str,
    multi_buffer: bool,
    endpoints: BTreeSet<[u8; ENDPOINT]>,
}

/// Length of a key of the map `endpoints`, bytes: address, port in network order, two zero bytes.
const ENDPOINT: usize = 20;

fn endpoint(address: IpAddr, port: u16) -> [u8; ENDPOINT] {
    let address = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut key = [0; ENDPOINT];
    key[..16].copy_from_slice(&address.octets());
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key
}

impl Programs {
    /// Loads the program of `kind` for a device with `queues` queues (1 or more), for frames of
    /// several buffers if the kernel supports them.
    ///
    /// # Errors
    /// libbpf's error, such as EPERM without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(kind: Kind, queues: u32) -> Result<Self, Error> {
        Self::load_with(kind, queues, true).or_else(|_| Self::load_with(kind, queues, false))
    }

    fn load_with(kind: Kind, queues: u32, multi_buffer: bool) -> Result<Self, Error> {
        let name = match kind {
            Kind::Underlay => "underlay",
            Kind::Tenant => "tenant",
            Kind::TenantTrunk { .. } => "tenant_trunk",
        };
        let mut open = ObjectBuilder::default()
            .open_memory(OBJECT)
            .context("open the built-in BPF object")?;
        for mut program in open.progs_mut() {
            program.set_autoload(program.name() == name);
            if program.name() != name {
                continue;
            }
            let mut flags = if multi_buffer { BPF_F_XDP_HAS_FRAGS } else { 0 };
            if let Kind::TenantTrunk { ifindex } = kind {
                program.set_ifindex(ifindex);
                flags |= BPF_F_XDP_DEV_BOUND_ONLY;
            }
            program.set_flags(flags);
        }
        for mut map in open
            .maps_mut()
            .filter(|map| map.name() == "sockets" || map.name() == "splits")
        {
            map.set_max_entries(queues.max(1))?;
        }
        let object = open.load().context("load the XDP program")?;
        Ok(Self {
            object,
            name,
            multi_buffer,
            endpoints: BTreeSet::new(),
        })
    }

    /// Whether the program supports frames of several buffers, which drivers use for frames longer
    /// than a page.
    #[must_use]
    pub fn is_multi_buffer(&self) -> bool {
        self.multi_buffer
    }

    fn map(&self, name: &str) -> Result<libbpf_rs::Map<'_>, Error> {
        self.object
            .maps()
            .find(|map| map.name() == name)
            .ok_or_else(|| Error::from(std::io::Error::other(format!("BPF map {name} is missing"))))
    }

    /// The loaded program, to be attached.
    ///
    /// # Errors
    /// If the object has no such program (a broken build), or no file descriptor is left.
    pub fn program(&self) -> Result<OwnedFd, Error> {
        let program = self
            .object
            .progs()
            .find(|program| program.name() == self.name);
        let program = program.ok_or_else(|| {
            Error::from(std::io::Error::other(format!(
                "XDP program {} is missing",
                self.name
            )))
        })?;
        Ok(program.as_fd().try_clone_to_owned()?)
    }

    /// Directs the frames of `queue` to `socket`. A socket leaves the map by itself when it is
    /// closed.
    ///
    /// # Errors
    /// libbpf's error if `queue` is out of range, or `socket` is not an AF_XDP socket.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let value = socket.as_raw_fd().to_ne_bytes();
        self.map("sockets")?
            .update(&queue.to_ne_bytes(), &value, MapFlags::ANY)
    }

    /// Sets the longest frame (bytes) that the underlay device's MTU permits. A longer one that
    /// fills the driver's buffer continues in the next buffer of its queue, which the program
    /// drops. Only for drivers that deliver each buffer as a frame of its own.
    ///
    /// # Errors
    /// libbpf's error.
    pub fn set_longest(&self, bytes: u32) -> Result<(), Error> {
        self.map("longest")?
            .update(&0u32.to_ne_bytes(), &bytes.to_ne_bytes(), MapFlags::ANY)
    }

    /// Sets how the socket of `queue` is bound: in copy mode (`copies`) the driver reassembles the
    /// pieces of a frame that is passed to the host.
    ///
    /// # Errors
    /// libbpf's error if `queue` is out of range.
    pub fn set_copies(&self, queue: u32, copies: bool) -> Result<(), Error> {
        // `struct split`: none dropped, no frame continues.
        let mut split = [0; 16];
        split[12..].copy_from_slice(&u32::from(copies).to_ne_bytes());
        self.map("splits")?
            .update(&queue.to_ne_bytes(), &split, MapFlags::ANY)
    }

    /// The number of buffers dropped on the first `queues` queues because a longer frame continued
    /// in them.
    #[must_use]
    pub fn segments_dropped(&self, queues: u32) -> u64 {
        let Ok(map) = self.map("splits") else {
            return 0;
        };
        let dropped = |queue: u32| {
            let split = map
                .lookup(&queue.to_ne_bytes(), MapFlags::ANY)
                .ok()
                .flatten()?;
            // `struct split`: the count comes first.
            Some(u64::from_ne_bytes(*split.first_chunk()?))
        };
        (0..queues).filter_map(dropped).sum()
    }

    /// Accepts VXLAN to `addresses` and UDP port `port` from now on, and to no other. Frames to
    /// endpoints that remain are not affected.
    ///
    /// # Errors
    /// libbpf's error for more than 256 addresses.
    pub fn set_endpoints(&mut self, addresses: &[IpAddr], port: u16) -> Result<(), Error> {
        let wanted: BTreeSet<_> = addresses
            .iter()
            .map(|address| endpoint(*address, port))
            .collect();
        let map = self.map("endpoints")?;
        for key in wanted.difference(&self.endpoints) {
            map.update(key, &[1], MapFlags::ANY)?;
        }
        for key in self.endpoints.difference(&wanted) {
            map.delete(key)?;
        }
        self.endpoints = wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ProgramInput;

    use super::*;

    /// XDP_DROP and XDP_PASS (include/uapi/linux/bpf.h).
    const DROP: u32 = 1;
    const PASS: u32 = 2;

    /// The program's verdicts on successive buffers of these lengths on queue 0, none of them
    /// VXLAN.
    fn verdicts(programs: &mut Programs, lengths: &[usize]) -> Vec<u32> {
        let name = programs.name;
        let program = programs
            .object
            .progs_mut()
            .find(|program| program.name() == name)
            .unwrap();
        let run = |length: &usize| {
            let data = vec![0xaa; *length];
            let input = ProgramInput {
                data_in: Some(&data),
                ..ProgramInput::default()
            };
            program.test_run(input).unwrap().return_value
        };
        lengths.iter().map(run).collect()
    }

    #[test]
    fn what_follows_a_full_buffer_is_dropped_up_to_the_end_of_the_frame() {
        let mut programs = Programs::load(Kind::Underlay, 2).unwrap();
        programs.set_longest(1522).unwrap();
        assert_eq!(
            verdicts(&mut programs, &[3072, 3072, 500, 500]),
            [PASS, DROP, DROP, PASS]
        );
        // With a time stamp before the frame.
        assert_eq!(
            verdicts(&mut programs, &[2048 - 16, 60, 60]),
            [PASS, DROP, PASS]
        );
        assert_eq!(
            (programs.segments_dropped(2), programs.segments_dropped(0)),
            (3, 0)
        );
    }

    #[test]
    fn frames_that_the_mtu_allows_and_longer_ones_that_end_in_their_buffer_stand_alone() {
        let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
        programs.set_longest(2048).unwrap();
        assert_eq!(
            verdicts(&mut programs, &[1024, 60, 2048, 60, 3000, 60]),
            [PASS; 6]
        );
        assert_eq!(programs.segments_dropped(1), 0);
    }

    #[test]
    fn in_copy_mode_and_with_other_drivers_nothing_follows_a_frame_that_is_passed() {
        let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
        assert_eq!(verdicts(&mut programs, &[3072, 60]), [PASS; 2]);
        programs.set_longest(1522).unwrap();
        programs.set_copies(0, true).unwrap();
        assert_eq!(verdicts(&mut programs, &[3072, 60]), [PASS; 2]);
    }
}
