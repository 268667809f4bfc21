//! Attaches programs to an interface by unpinned `bpf_link`s.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use vtep_bpf::Programs;

use super::error::Error;
use super::interface::Interface;

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

/// The identifier of the XDP program that is attached to the interface `name` in the caller's network
/// namespace; `None` without one, or where the kernel does not say.
#[must_use]
pub fn attached_program(name: &str) -> Option<u32> {
    let index = Interface::named(name).ok()?.index;
    let mut id = 0;
    // SAFETY: libbpf writes one integer to `id`, which outlives the call.
    let result = unsafe { libbpf_sys::bpf_xdp_query_id(index as i32, 0, &raw mut id) };
    (result == 0 && id != 0).then_some(id)
}

/// Attaches the program in the best mode that `mode` permits.
pub(super) fn attach_best(
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

/// Attaches the program in one mode.
pub(super) fn attach(
    name: &str,
    interface: &Interface,
    programs: &Programs,
    mode: AttachMode,
) -> Result<OwnedFd, Error> {
    let program = programs.program().map_err(|source| Error::Load {
        interface: name.to_owned(),
        source,
    })?;
    create_link(&program, interface.index, libbpf_sys::BPF_XDP, mode.flags()).map_err(|source| {
        Error::Attach {
            interface: name.to_owned(),
            mtu: interface.mtu,
            mode: mode.name(),
            source,
        }
    })
}

/// Attaches the guard. Without it (before Linux 6.6) only the XDP program keeps frames from the
/// host stack.
pub(super) fn attach_guard(name: &str, ifindex: u32, programs: &Programs) -> Option<OwnedFd> {
    let program = programs.guard().ok().flatten()?;
    create_link(&program, ifindex, libbpf_sys::BPF_TCX_INGRESS, 0)
        .inspect_err(|error| tracing::warn!(interface = name, %error, "no guard at tcx ingress"))
        .ok()
}

/// Attaches a program to an interface for as long as the link is open.
pub(crate) fn create_link(
    program: &OwnedFd,
    ifindex: u32,
    kind: libbpf_sys::bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags,
        ..Default::default()
    };
    // libbpf-rs can't pass flags for a link, and its netlink attachment would outlive a killed
    // process.
    // SAFETY: `options` states its own size and outlives the call.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_fd().as_raw_fd(),
            ifindex as i32,
            kind,
            &raw const options,
        )
    };
    if link < 0 {
        return Err(io::Error::from_raw_os_error(-link));
    }
    // SAFETY: the kernel has just returned this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}
