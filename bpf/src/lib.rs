//! The XDP programs of vtepd (`vtep.bpf.c`), and its tcx programs and socket filters for packet
//! sockets (`packet.bpf.c`, `underlay.bpf.c`), loaded for one device at a time.
//!
//! The data plane attaches them and opens the sockets; this crate needs no `unsafe`.

mod endpoints;
pub mod generate;
mod packet;
mod underlay;

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// libbpf's error, with its chain of causes.
pub use libbpf_rs::Error;
use libbpf_rs::{ErrorExt, Map, MapCore, MapFlags, Object, ObjectBuilder};

use self::endpoints::Endpoints;
pub use self::endpoints::MAX_ENDPOINTS;
pub use self::packet::{Isolated, PacketPrograms};
pub use self::underlay::UnderlayPrograms;

/// The compiled programs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vtep.bpf.o"));

/// Load-time flag of a program that belongs to one device (include/uapi/linux/bpf.h).
const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

/// Load-time flag of a program that supports frames of several buffers: Linux 5.18 or later.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// The programs, by what they do with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// VXLAN to a local endpoint goes to the queue's socket or is dropped, everything else goes to
    /// the host stack.
    Underlay,
    /// Every frame goes to the queue's socket, or is dropped.
    Tenant,
    /// As [`Kind::Tenant`], and restores a VLAN tag that the driver has stripped. The program is
    /// bound to the device with this interface index: it needs native XDP, and a driver that can
    /// report the tag.
    TenantTags {
        /// Index of the interface.
        ifindex: u32,
    },
}

/// One loaded instance of the programs, with its own maps.
#[derive(Debug)]
pub struct Programs {
    object: Object,
    /// The XDP program, and the guard.
    names: (&'static str, Option<&'static str>),
    /// The second instance of the XDP program is the one in use.
    second: bool,
    multi_buffer: bool,
    endpoints: Endpoints,
}

/// The end of the names of second instances of XDP programs.
const SECOND: &str = "_b";

/// Frames that the program of one device has dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// On a queue that had no socket, or without the XDP program.
    pub no_socket: u64,
    /// Those of them that the driver passed to the host without running the XDP program.
    pub bypassed: u64,
    /// Buffers of frames that the driver delivered in pieces.
    pub segments: u64,
}

/// Length of a value of the map `queues` (`struct queue`), bytes: three counters, two flags.
const QUEUE: usize = 32;

/// What the object should have, and has not: the build is broken.
/// The kernel's error number in a libbpf error. Its type does not tell it; its text ends with that of
/// the standard library's error.
#[must_use]
pub fn errno(error: &Error) -> Option<i32> {
    let text = format!("{error:#}");
    let (_, number) = text.rsplit_once("(os error ")?;
    number.strip_suffix(')')?.parse().ok()
}

fn missing(what: &str, name: &str) -> Error {
    Error::from(std::io::Error::other(format!(
        "BPF {what} {name} is missing"
    )))
}

/// The map with this name.
fn map<'a>(object: &'a Object, name: &str) -> Result<Map<'a>, Error> {
    let found = object.maps().find(|map| map.name() == name);
    found.ok_or_else(|| missing("map", name))
}

/// A descriptor of the program with this name.
fn program(object: &Object, name: &str) -> Result<OwnedFd, Error> {
    let found = object.progs().find(|program| program.name() == name);
    let program = found.ok_or_else(|| missing("program", name))?;
    Ok(program.as_fd().try_clone_to_owned()?)
}

/// Sets the only entry of a map of numbers.
fn set_number(object: &Object, name: &str, value: u32) -> Result<(), Error> {
    map(object, name)?.update(&0u32.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY)
}

/// The sum of a counter of all CPUs; 0 if it can't be read.
fn sum_of_cpus(object: &Object, name: &str, number: u32) -> u64 {
    let counts =
        map(object, name).and_then(|map| map.lookup_percpu(&number.to_ne_bytes(), MapFlags::ANY));
    let counts = counts.ok().flatten().unwrap_or_default().into_iter();
    let count = |bytes: Vec<u8>| bytes.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
    counts.map(count).sum()
}

impl Programs {
    /// Loads the program of `kind` for a device that may have up to `queues` queues (1 or more), for
    /// frames of several buffers if the kernel supports them.
    ///
    /// # Errors
    /// libbpf's error, such as EPERM without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(kind: Kind, queues: u32) -> Result<Self, Error> {
        // Guards need Linux 6.6, frames of several buffers 5.18.
        Self::load_with(kind, queues, true, true)
            .or_else(|_| Self::load_with(kind, queues, true, false))
            .or_else(|_| Self::load_with(kind, queues, false, false))
    }

    fn load_with(
        kind: Kind,
        queues: u32,
        multi_buffer: bool,
        guarded: bool,
    ) -> Result<Self, Error> {
        let (name, guard) = match kind {
            Kind::Underlay => ("underlay", "underlay_guard"),
            Kind::Tenant => ("tenant", "tenant_guard"),
            Kind::TenantTags { .. } => ("tenant_tags", "tenant_guard"),
        };
        let mut open = ObjectBuilder::default()
            .open_memory(OBJECT)
            .context("open the built-in BPF object")?;
        for mut program in open.progs_mut() {
            let own = program.name().to_string_lossy().into_owned();
            let is_xdp = own.strip_suffix(SECOND).unwrap_or(&own) == name;
            program.set_autoload(is_xdp || guarded && own == guard);
            if !is_xdp {
                continue;
            }
            let mut flags = if multi_buffer { BPF_F_XDP_HAS_FRAGS } else { 0 };
            if let Kind::TenantTags { ifindex } = kind {
                program.set_ifindex(ifindex);
                flags |= BPF_F_XDP_DEV_BOUND_ONLY;
            }
            program.set_flags(flags);
        }
        for mut map in open.maps_mut() {
            let name = map.name().to_owned();
            if name == "sockets" || name == "queues" {
                map.set_max_entries(queues.max(1))?;
            }
        }
        if kind == Kind::Underlay {
            endpoints::set_size(&mut open)?;
        }
        let object = open.load().context("load the XDP program")?;
        Ok(Self {
            object,
            names: (name, guarded.then_some(guard)),
            second: false,
            multi_buffer,
            endpoints: Endpoints::default(),
        })
    }

    /// Whether the program supports frames of several buffers, which drivers use for frames longer
    /// than a page.
    #[must_use]
    pub fn is_multi_buffer(&self) -> bool {
        self.multi_buffer
    }

    fn map(&self, name: &str) -> Result<Map<'_>, Error> {
        map(&self.object, name)
    }

    /// The loaded XDP program, to be attached.
    ///
    /// # Errors
    /// If the object has no such program (a broken build), or no file descriptor is left.
    pub fn program(&self) -> Result<OwnedFd, Error> {
        let name = self.names.0;
        if self.second {
            self.named(&format!("{name}{SECOND}"))
        } else {
            self.named(name)
        }
    }

    /// The other instance of the XDP program, to replace the attached one; from now on
    /// [`Self::program`] returns it. The maps are the same.
    ///
    /// # Errors
    /// As [`Self::program`].
    pub fn switch(&mut self) -> Result<OwnedFd, Error> {
        self.second = !self.second;
        self.program()
    }

    /// The program for tcx ingress that drops and counts what passed the XDP program by; `None` if
    /// the kernel has no tcx.
    ///
    /// # Errors
    /// As [`Self::program`].
    pub fn guard(&self) -> Result<Option<OwnedFd>, Error> {
        self.names.1.map(|name| self.named(name)).transpose()
    }

    fn named(&self, name: &str) -> Result<OwnedFd, Error> {
        program(&self.object, name)
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

    /// Sets the longest frame (bytes) that the device's MTU permits. A longer one that fills the
    /// driver's buffer continues in the next buffer of its queue, which the program drops. Only for drivers that deliver each buffer as a frame of its own.
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
        let map = self.map("queues")?;
        let now = map.lookup(&queue.to_ne_bytes(), MapFlags::ANY)?;
        let mut state = now.unwrap_or_else(|| vec![0; QUEUE]);
        // `struct queue`: the counts stay, and no frame continues.
        state[24..28].copy_from_slice(&0u32.to_ne_bytes());
        state[28..32].copy_from_slice(&u32::from(copies).to_ne_bytes());
        map.update(&queue.to_ne_bytes(), &state, MapFlags::ANY)
    }

    /// What was dropped on each of the first `queues` queues.
    #[must_use]
    pub fn drops(&self, queues: u32) -> Vec<Drops> {
        let mut all = vec![Drops::default(); queues as usize];
        let Ok(map) = self.map("queues") else {
            return all;
        };
        let Ok(states) = map.lookup_batch(queues.max(1), MapFlags::ANY, MapFlags::ANY) else {
            return all;
        };
        for (key, state) in states {
            // `struct queue`: the counts come first.
            let number = key.first_chunk().map(|key| u32::from_ne_bytes(*key));
            let place = number.and_then(|number| all.get_mut(number as usize));
            let count = |at: usize| {
                let bytes = state.get(at..).and_then(<[u8]>::first_chunk);
                bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
            };
            if let Some(place) = place {
                *place = Drops {
                    segments: count(0),
                    no_socket: count(8),
                    bypassed: count(16),
                };
            }
        }
        all
    }

    /// Accepts VXLAN to `addresses` and UDP port `port` from now on, and to no other. Frames to
    /// endpoints that remain are not affected. Of more than [`MAX_ENDPOINTS`] addresses, the first
    /// ones are accepted.
    ///
    /// # Errors
    /// libbpf's error, such as ENOMEM.
    pub fn set_endpoints(&mut self, addresses: &[IpAddr], port: u16) -> Result<(), Error> {
        self.endpoints.set(&self.object, addresses, port)
    }
}

#[cfg(test)]
mod tests;
