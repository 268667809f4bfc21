//! The XDP programs of vtepd (`vtep.bpf.c`), loaded for one device at a time.
//!
//! Attaching them and the AF_XDP sockets are the data plane's; this crate needs no `unsafe`.

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

/// Load-time flag of a program that takes frames of several buffers: Linux 5.18 or later.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// What the programs do with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// VXLAN to a local endpoint goes to the queue's socket, everything else to the host stack.
    Underlay,
    /// Every frame goes to the queue's socket, or is dropped.
    Tenant,
    /// As [`Kind::Tenant`], and an 802.1Q tag that the driver has taken out of the frame is put back. The program is
    /// bound to the device with this interface index: it needs native XDP and a driver that can tell the tag.
    TenantTrunk {
        /// The interface.
        ifindex: u32,
    },
}

/// One loaded instance of the programs, with maps of its own.
#[derive(Debug)]
pub struct Programs {
    object: Object,
    name: &'static str,
    takes_chains: bool,
    endpoints: BTreeSet<[u8; ENDPOINT]>,
}

/// Bytes of a key of the map `endpoints`: address, port in network order, two zero bytes.
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
    /// Loads the program of `kind` for a device with `queues` queues (1 or more), for frames of several buffers if the
    /// kernel has them.
    ///
    /// # Errors
    /// libbpf's, for instance when the kernel refuses for want of CAP_BPF and CAP_NET_ADMIN.
    pub fn load(kind: Kind, queues: u32) -> Result<Self, Error> {
        Self::load_with(kind, queues, true).or_else(|_| Self::load_with(kind, queues, false))
    }

    fn load_with(kind: Kind, queues: u32, takes_chains: bool) -> Result<Self, Error> {
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
            let mut flags = if takes_chains { BPF_F_XDP_HAS_FRAGS } else { 0 };
            if let Kind::TenantTrunk { ifindex } = kind {
                program.set_ifindex(ifindex);
                flags |= BPF_F_XDP_DEV_BOUND_ONLY;
            }
            program.set_flags(flags);
        }
        if let Some(mut sockets) = open.maps_mut().find(|map| map.name() == "sockets") {
            sockets.set_max_entries(queues.max(1))?;
        }
        let object = open.load().context("load the XDP program")?;
        Ok(Self {
            object,
            name,
            takes_chains,
            endpoints: BTreeSet::new(),
        })
    }

    /// Whether the program takes frames of several buffers, which drivers make of those that are longer than a page.
    #[must_use]
    pub fn takes_chains(&self) -> bool {
        self.takes_chains
    }

    fn map(&self, name: &str) -> Result<libbpf_rs::Map<'_>, Error> {
        self.object
            .maps()
            .find(|map| map.name() == name)
            .ok_or_else(|| Error::from(std::io::Error::other(format!("BPF map {name} is missing"))))
    }

    /// The loaded program, to attach it.
    ///
    /// # Errors
    /// When the object has no such program (a broken build), or no file descriptor is left.
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

    /// Frames of `queue` go to `socket` from now on. A socket leaves the map by itself when it is closed.
    ///
    /// # Errors
    /// libbpf's: `queue` is beyond the device's, or the socket is no AF_XDP socket.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let value = socket.as_raw_fd().to_ne_bytes();
        self.map("sockets")?
            .update(&queue.to_ne_bytes(), &value, MapFlags::ANY)
    }

    /// Takes VXLAN to `addresses` and UDP port `port` from now on, and to no other. Frames to endpoints that stay are
    /// not disturbed.
    ///
    /// # Errors
    /// libbpf's: more than 256 addresses.
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
