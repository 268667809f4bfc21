//! A device with vtepd's XDP program attached.
//!
//! The program is attached by an unpinned `bpf_link`: the kernel detaches it when the process ends,
//! however it ends.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use vtep_bpf::{Drops, Kind, MAX_ENDPOINTS, Programs};

use super::attach::{AttachMode, Mode, attach, attach_best, attach_guard};
use super::buffer::{self, Misfit};
use super::error::Error;
use super::interface::{Interface, TagsInFrames};
use super::options::{BindMode, Binding, SocketConfig};
use super::port::XskPort;
use super::probe::{Probe, program_id};
use super::socket::{self, Queue};
use super::umem::Umem;
use crate::addr::MacAddr;

/// Endpoints (local VTEP addresses, multicast groups) that an underlay device accepts VXLAN for.
pub const ENDPOINT_LIMIT: usize = MAX_ENDPOINTS as usize;

/// The XDP program of a device, by the role of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Underlay: VXLAN to a local VTEP address goes to the sockets, all else to the host stack.
    Underlay {
        /// Local VTEP addresses and multicast groups, at most [`ENDPOINT_LIMIT`].
        locals: Vec<IpAddr>,
        /// UDP port of VXLAN.
        udp_port: u16,
    },
    /// A tenant's port: every frame goes to the sockets, none to the host stack, with its VLAN tags
    /// where the driver can report those that it strips.
    Tenant,
}

/// Where the VLAN tags of received frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VlanTags {
    /// The program puts back what the driver strips.
    Restored,
    /// The driver leaves them in the frame.
    InFrame,
    /// The driver may keep a tag beside the frame, where neither the program nor a socket sees it.
    Invisible,
}

/// A device with the program attached; dropping it detaches the program.
#[derive(Debug)]
pub struct XdpDevice {
    name: String,
    interface: Interface,
    mode: Mode,
    attached: AttachMode,
    tags: VlanTags,
    _tags_in_frames: Option<TagsInFrames>,
    programs: Programs,
    /// The kernel's number of the attached program; `None` when it does not say.
    program_id: Option<u32>,
    /// Dropping it detaches the program.
    link: OwnedFd,
    /// The link of the guard.
    _guard: Option<OwnedFd>,
}

/// The number of queues of the interface `name` in the caller's network namespace.
///
/// # Errors
/// [`Error::Interface`].
pub fn queues(name: &str) -> Result<u32, Error> {
    Ok(Interface::named(name)?.queues)
}

/// Why the interface `name` can't be bound zero-copy with chunks of `chunk_size` bytes, with the
/// remedy; `None` where it can, as far as that is known without binding it, or where it does not
/// exist.
#[must_use]
pub fn no_zero_copy(name: &str, chunk_size: u32) -> Option<String> {
    let interface = Interface::named(name).ok()?;
    if interface.software {
        let driver = match interface.driver.as_str() {
            "" => "its driver",
            driver => driver,
        };
        return Some(format!(
            "interface {name}: {driver} has no zero-copy, since there is no hardware behind it; \
             set mode = \"auto\""
        ));
    }
    Misfit::of(name, &interface.driver, interface.mtu, chunk_size).map(|misfit| misfit.to_string())
}

impl XdpDevice {
    /// Attaches the program to the interface `name` in the caller's network namespace. Until
    /// [`XdpDevice::bind`], frames for a socket are dropped and counted.
    ///
    /// # Errors
    /// [`Error::Interface`], [`Error::Load`] or [`Error::Attach`]; nothing is left on the
    /// interface.
    pub fn open(name: &str, program: &Program, mode: Mode) -> Result<Self, Error> {
        let interface = Interface::named(name)?;
        let load = |kind| {
            Programs::load(kind, interface.max_queues).map_err(|source| Error::Load {
                interface: name.to_owned(),
                source,
            })
        };
        let tenant = *program == Program::Tenant;
        let restoring = (tenant && mode != Mode::Generic && interface.reports_tags())
            .then(|| {
                let ifindex = interface.index;
                let programs = load(Kind::TenantTags { ifindex }).ok()?;
                let link = attach(name, &interface, &programs, AttachMode::Native).ok()?;
                Some((programs, AttachMode::Native, link))
            })
            .flatten();
        let restored = restoring.is_some();
        let (programs, attached, link) = match restoring {
            Some(attached) => attached,
            None => {
                let programs = load(if tenant { Kind::Tenant } else { Kind::Underlay })?;
                let (attached, link) = attach_best(name, &interface, &programs, mode)?;
                (programs, attached, link)
            }
        };
        let in_frames = (tenant && !restored)
            .then(|| TagsInFrames::ensure(name, &interface))
            .flatten();
        let ifindex = interface.index;
        let mut device = Self {
            name: name.to_owned(),
            interface,
            mode,
            attached,
            tags: match &in_frames {
                _ if restored => VlanTags::Restored,
                Some(_) => VlanTags::InFrame,
                None => VlanTags::Invisible,
            },
            _tags_in_frames: in_frames,
            _guard: attach_guard(name, ifindex, &programs),
            program_id: programs
                .program()
                .ok()
                .and_then(|own| program_id(&own).ok()),
            programs,
            link,
        };
        if let Program::Underlay { locals, udp_port } = program {
            device.set_endpoints(locals, *udp_port)?;
        }
        device.set_mtu(device.interface.mtu)?;
        Ok(device)
    }

    /// Sets the MTU (bytes) in the program: a driver may deliver longer frames in pieces.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn set_mtu(&self, mtu: u32) -> Result<(), Error> {
        if self.interface.software || self.attached == AttachMode::Generic {
            return Ok(());
        }
        let Some(longest) = buffer::longest_before_split(&self.interface.driver, mtu) else {
            return Ok(());
        };
        self.programs
            .set_longest(longest)
            .map_err(|source| Error::Load {
                interface: self.name.clone(),
                source,
            })
    }

    /// Frames that the program has dropped on each queue that the interface may have.
    #[must_use]
    pub fn drops(&self) -> Vec<Drops> {
        self.programs.drops(self.interface.max_queues)
    }

    /// What to ask about the interface with its program attached.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe {
            name: self.name.clone(),
            ifindex: self.interface.index,
            xdp: self.program_id,
            tcx: Vec::new(),
        }
    }

    /// Follows a change of the number of queues in use: the program is attached to those that were
    /// added.
    ///
    /// # Errors
    /// [`Error::Load`] or [`Error::Attach`]; the number stays as it was.
    pub fn set_queues(&mut self, queues: u32) -> Result<(), Error> {
        // Beyond `max_queues` the program has no place for a socket.
        let queues = queues.min(self.interface.max_queues);
        if queues > self.interface.queues {
            self.attach_again()?;
        }
        self.interface.queues = queues;
        Ok(())
    }

    /// Makes the driver install the program on all queues: veth has none on those that were added
    /// (drivers/net/veth.c, `veth_set_channels`), and the kernel replaces a program only by another
    /// one.
    fn attach_again(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Load {
            interface: self.name.clone(),
            source,
        };
        let program = self.programs.switch().map_err(failed)?;
        let id = program_id(&program).ok();
        let (link, program) = (self.link.as_fd().as_raw_fd(), program.as_fd().as_raw_fd());
        // SAFETY: both descriptors are open, and no options are passed.
        let result = unsafe { libbpf_sys::bpf_link_update(link, program, std::ptr::null()) };
        if result == 0 {
            self.program_id = id;
            return Ok(());
        }
        Err(Error::Attach {
            interface: self.name.clone(),
            mtu: self.interface.mtu,
            mode: self.attached.name(),
            source: io::Error::from_raw_os_error(-result),
        })
    }

    /// Why sockets are not bound zero-copy at this MTU (bytes). `None` where a frame fits, or where
    /// zero-copy is not configured or not possible: a generic program, an interface without
    /// hardware.
    #[must_use]
    pub fn misfit(&self, umem: &Umem, mtu: u32) -> Option<Misfit> {
        let wanted = matches!(self.mode, Mode::Auto | Mode::ZeroCopy);
        if !wanted || self.interface.software || self.attached == AttachMode::Generic {
            return None;
        }
        Misfit::of(&self.name, &self.interface.driver, mtu, umem.frame_size())
    }

    /// Changes the VTEP addresses and the UDP port of an underlay device. VXLAN to addresses that
    /// remain is not interrupted. Of more than [`ENDPOINT_LIMIT`] addresses the first ones count.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn set_endpoints(&mut self, locals: &[IpAddr], udp_port: u16) -> Result<(), Error> {
        self.programs
            .set_endpoints(locals, udp_port)
            .map_err(|source| Error::Load {
                interface: self.name.clone(),
                source,
            })
    }

    /// Opens a socket on `queue` and directs the queue's frames to it. The first
    /// [`crate::port::Port::receive`] gives it chunks to receive into.
    ///
    /// # Errors
    /// [`Error::Socket`] for the last mode tried, [`Error::Value`] for ring sizes or a queue out of
    /// range, [`Error::Misfit`] in [`Mode::ZeroCopy`] where a frame at the interface's MTU does not
    /// fit.
    pub fn bind(&self, queue: u32, umem: &Umem, config: SocketConfig) -> Result<XskPort, Error> {
        if queue >= self.interface.queues {
            return Err(Error::Value {
                what: "queue",
                value: queue.into(),
                expected: "below the device's number of queues",
            });
        }
        let misfit = self.misfit(umem, self.interface.mtu);
        let bindings = self.bindings(umem, misfit.is_none());
        let target = Queue {
            interface: &self.name,
            ifindex: self.interface.index,
            number: queue,
        };
        let (socket, owner) = match (socket::open(target, umem, &bindings, config), misfit) {
            // The driver does not support frames of several chunks zero-copy either
            // (net/xdp/xsk_buff_pool.c).
            (Err(error), Some(misfit))
                if self.mode == Mode::ZeroCopy
                    && matches!(error.errno(), None | Some(libc::EOPNOTSUPP | libc::EINVAL)) =>
            {
                return Err(misfit.into());
            }
            (opened, _) => opened?,
        };
        let port = XskPort::new(socket, owner, umem.clone(), target);
        self.programs
            .set_copies(queue, port.bind_mode() == BindMode::Copy)
            .and_then(|()| self.programs.set_socket(queue, port.as_fd()))
            .map_err(|source| Error::Load {
                interface: self.name.clone(),
                source,
            })?;
        Ok(port)
    }

    /// The modes to bind a socket in, best first. `fits`: a whole frame fits into one chunk,
    /// zero-copy.
    fn bindings(&self, umem: &Umem, fits: bool) -> Vec<Binding> {
        // Some drivers (virtio-net) bind zero-copy under a generic program, where it can't work.
        let modes: &[BindMode] = match (self.mode, self.attached) {
            (Mode::ZeroCopy, _) => &[BindMode::ZeroCopy],
            (Mode::Auto, AttachMode::Native) => &[BindMode::ZeroCopy, BindMode::Copy],
            _ => &[BindMode::Copy],
        };
        // Copy mode that receives all frames comes before zero-copy that loses the long ones.
        let all_whole = self.interface.mtu + buffer::FRAMING <= umem.longest_whole();
        let candidates = modes
            .iter()
            .flat_map(|mode| [(*mode, true), (*mode, false)]);
        let mut bindings: Vec<_> = candidates
            .map(|(mode, multi_buffer)| Binding { mode, multi_buffer })
            .collect();
        if !all_whole {
            bindings.sort_by_key(|binding| !binding.multi_buffer);
        }
        if !fits {
            // With multi-buffer the driver keeps a frame together; without, it splits or drops it.
            bindings.retain(|binding| binding.mode == BindMode::Copy || binding.multi_buffer);
        }
        if !self.programs.is_multi_buffer() {
            // The kernel gives such a program only frames in one buffer.
            bindings.retain(|binding| !binding.multi_buffer);
        }
        bindings
    }

    /// Name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True when there is no hardware behind the interface, as with veth, macvlan and tap: the
    /// driver names no bus. Such interfaces claim checksum offload, and pass packets on without
    /// checksums.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.interface.software
    }

    /// Index of the interface when it was opened. A new interface of the same name has another.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.interface.index
    }

    /// Number of receive and transmit queues, when last read.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.interface.queues
    }

    /// Where the program runs.
    #[must_use]
    pub fn attach_mode(&self) -> AttachMode {
        self.attached
    }

    /// Where the VLAN tags of a tenant's frames are. In [`VlanTags::Restored`] the program restores
    /// those that the driver strips into metadata (a native program on Linux 6.8 or later).
    #[must_use]
    pub fn vlan_tags(&self) -> VlanTags {
        self.tags
    }

    /// Whether it was up, with a carrier, when it was opened.
    #[must_use]
    pub fn link_up(&self) -> bool {
        self.interface.link_up
    }

    /// MTU when the device was opened, bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.interface.mtu
    }

    /// MAC address when the device was opened.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.interface.mac
    }
}
