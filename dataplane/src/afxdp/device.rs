//! A device with vtepd's XDP program attached.
//!
//! The program is attached by an unpinned `bpf_link`: the kernel detaches it when the process ends,
//! however it ends.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use vtep_bpf::{Kind, Programs};

use super::buffer::{self, Misfit};
use super::error::Error;
use super::interface::Interface;
use super::options::{BindMode, Binding, SocketConfig};
use super::port::XskPort;
use super::socket::{self, Queue};
use super::umem::Umem;
use crate::addr::MacAddr;

/// The XDP program of a device, by the role of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Underlay: VXLAN to a local VTEP address goes to the sockets, all else to the host stack.
    Underlay {
        /// Local VTEP addresses, at most 256.
        locals: Vec<IpAddr>,
        /// UDP port of VXLAN.
        udp_port: u16,
    },
    /// A tenant's port: every frame goes to the sockets, none to the host stack.
    Tenant,
    /// A tenant's trunk: as [`Program::Tenant`], with 802.1Q tags left in the frames.
    TenantTrunk,
}

/// The configured mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The best mode that works: native before generic, zero-copy before copy.
    #[default]
    Auto,
    /// Native program and zero-copy, or an error.
    ZeroCopy,
    /// Copy, with a native program where the driver supports it.
    Copy,
    /// Generic program and copy, which every driver supports.
    Generic,
}

/// Where the XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the kernel's generic receive path, after the driver.
    Generic,
}

impl AttachMode {
    /// `XDP_FLAGS_DRV_MODE` or `XDP_FLAGS_SKB_MODE` (include/uapi/linux/if_link.h).
    const fn flags(self) -> u32 {
        match self {
            Self::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        }
    }

    /// `native` or `generic`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl std::fmt::Display for AttachMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A device with the program attached; dropping it detaches the program.
#[derive(Debug)]
pub struct XdpDevice {
    name: String,
    interface: Interface,
    mode: Mode,
    attached: AttachMode,
    tags_restored: bool,
    programs: Programs,
    /// Dropping it detaches the program.
    _link: OwnedFd,
}

/// The number of queues of the interface `name` in the caller's network namespace.
///
/// # Errors
/// [`Error::Interface`].
pub fn queues(name: &str) -> Result<u32, Error> {
    Ok(Interface::named(name)?.queues)
}

impl XdpDevice {
    /// Attaches the program to the interface `name` in the caller's network namespace. Until
    /// [`XdpDevice::bind`], frames for a socket are passed to the host (underlay) or dropped
    /// (tenant).
    ///
    /// # Errors
    /// [`Error::Interface`], [`Error::Load`] or [`Error::Attach`]; nothing is left on the
    /// interface.
    pub fn open(name: &str, program: &Program, mode: Mode) -> Result<Self, Error> {
        let interface = Interface::named(name)?;
        let load = |kind| {
            Programs::load(kind, interface.queues).map_err(|source| Error::Load {
                interface: name.to_owned(),
                source,
            })
        };
        if *program == Program::TenantTrunk && mode != Mode::Generic {
            // A driver that can't report the tag leaves it in the frame, or the operator must make
            // it do so.
            let programs = load(Kind::TenantTrunk {
                ifindex: interface.index,
            });
            let attached = programs.and_then(|programs| {
                Ok((
                    attach(name, &interface, &programs, AttachMode::Native)?,
                    programs,
                ))
            });
            if let Ok((link, programs)) = attached {
                let (name, attached) = (name.to_owned(), AttachMode::Native);
                return Ok(Self {
                    name,
                    interface,
                    mode,
                    attached,
                    tags_restored: true,
                    programs,
                    _link: link,
                });
            }
        }
        let kind = if matches!(program, Program::Underlay { .. }) {
            Kind::Underlay
        } else {
            Kind::Tenant
        };
        let programs = load(kind)?;
        let (attached, link) = attach_best(name, &interface, &programs, mode)?;
        let name = name.to_owned();
        let mut device = Self {
            name,
            interface,
            mode,
            attached,
            tags_restored: false,
            programs,
            _link: link,
        };
        if let Program::Underlay { locals, udp_port } = program {
            device.set_endpoints(locals, *udp_port)?;
            device.set_mtu(device.interface.mtu)?;
        }
        Ok(device)
    }

    /// Sets the MTU (bytes) in the program of an underlay device: a driver may deliver longer
    /// frames in pieces.
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

    /// Pieces of frames longer than the MTU that the program of an underlay device has dropped,
    /// because the driver delivered them as frames of their own.
    #[must_use]
    pub fn segments_dropped(&self) -> u64 {
        self.programs.segments_dropped(self.interface.queues)
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
    /// remain is not interrupted.
    ///
    /// # Errors
    /// [`Error::Load`] with more than 256 addresses.
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

    /// Number of receive and transmit queues.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.interface.queues
    }

    /// Where the program runs.
    #[must_use]
    pub fn attach_mode(&self) -> AttachMode {
        self.attached
    }

    /// True when the program restores 802.1Q tags that the driver strips into metadata (trunks with
    /// a native program on Linux 6.8 or later). Otherwise the driver must leave them in the frame
    /// (`ethtool -K IF rxvlan off`).
    #[must_use]
    pub fn restores_tags(&self) -> bool {
        self.tags_restored
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

/// Attaches the program in the best mode that `mode` permits.
fn attach_best(
    name: &str,
    interface: &Interface,
    programs: &Programs,
    mode: Mode,
) -> Result<(AttachMode, OwnedFd), Error> {
    if mode != Mode::Generic {
        match attach(name, interface, programs, AttachMode::Native) {
            Ok(link) => return Ok((AttachMode::Native, link)),
            // Another program is attached, or permission is missing: generic mode would be wrong or
            // fail as well.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::EBUSY | libc::EEXIST | libc::ENODEV | libc::EPERM)
                ) =>
            {
                return Err(error);
            }
            Err(error) if mode == Mode::ZeroCopy => return Err(error),
            Err(error) => {
                tracing::info!(interface = name, %error, "no native XDP: using generic XDP");
            }
        }
    }
    Ok((
        AttachMode::Generic,
        attach(name, interface, programs, AttachMode::Generic)?,
    ))
}

fn attach(
    name: &str,
    interface: &Interface,
    programs: &Programs,
    mode: AttachMode,
) -> Result<OwnedFd, Error> {
    let program = programs.program().map_err(|source| Error::Load {
        interface: name.to_owned(),
        source,
    })?;
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags: mode.flags(),
        ..Default::default()
    };
    // libbpf-rs can't pass flags for a link, and its netlink attachment would outlive a killed
    // process.
    // SAFETY: `options` states its own size and outlives the call.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_fd().as_raw_fd(),
            interface.index as i32,
            libbpf_sys::BPF_XDP,
            &raw const options,
        )
    };
    if link < 0 {
        let source = io::Error::from_raw_os_error(-link);
        return Err(Error::Attach {
            interface: name.to_owned(),
            mode: mode.name(),
            source,
        });
    }
    // SAFETY: the kernel has just returned this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}
