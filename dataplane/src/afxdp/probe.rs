//! What the kernel says about an interface that is open. To ask takes the kernel's rtnl lock, which
//! may be held for tens of seconds: that is for a thread that may wait.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::error::Error;
use super::interface::Interface;

/// Programs at one hook of tcx that are looked at: as many as there can be (`BPF_MPROG_MAX`,
/// include/linux/bpf_mprog.h).
const PROGRAMS: usize = 64;

/// Length of the headers before the attributes of a link message: `struct nlmsghdr` and
/// `struct ifinfomsg` (linux/netlink.h, linux/rtnetlink.h).
const LINK_HEADERS: usize = 32;

/// What is to be asked about an interface: whether it is as it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// The XDP program that was attached.
    pub(crate) xdp: Option<u32>,
    /// The programs that were attached to hooks of tcx.
    pub(crate) tcx: Vec<(libbpf_sys::bpf_attach_type, u32)>,
}

/// The answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    /// The interface is the same, and the programs are attached to it still. Not when it was removed
    /// and another one has its name and index since.
    pub same: bool,
    /// Receive queues in use.
    pub queues: u32,
    /// Another program of tcx comes first: it may pass frames between the tenant and the host.
    pub preceded: bool,
    /// An XDP program is attached that is not the interface's own: it sees the tenant's frames first.
    pub foreign_xdp: bool,
}

impl Probe {
    /// Asks the kernel. What it does not say is taken to be as it was.
    ///
    /// # Errors
    /// [`Error::Interface`], also when there is no interface of this name.
    pub fn ask(&self) -> Result<Probed, Error> {
        let now = Interface::named(&self.name)?;
        let mut probed = Probed {
            same: now.index == self.ifindex,
            queues: now.queues,
            ..Probed::default()
        };
        if let Ok(message) = link_message(self.ifindex) {
            let attached = xdp_programs(&message);
            probed.same &= self.xdp.is_none_or(|own| attached.contains(&own));
            probed.foreign_xdp = self.xdp.is_none() && !attached.is_empty();
        }
        for (hook, own) in &self.tcx {
            if let Some(programs) = tcx_programs(self.ifindex, *hook) {
                probed.same &= programs.contains(own);
                probed.preceded |= programs.first().is_some_and(|first| first != own);
            }
        }
        Ok(probed)
    }
}

/// The kernel's number of a program.
pub(crate) fn program_id(program: &OwnedFd) -> io::Result<u32> {
    // SAFETY: all-zero bytes are valid for this struct of integers.
    let mut info: libbpf_sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: the kernel writes at most `length` bytes to `info`, and both outlive the call.
    let result = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length)
    };
    if result == 0 {
        Ok(info.id)
    } else {
        Err(io::Error::from_raw_os_error(-result))
    }
}

/// The programs at a hook of an interface in their order; `None` when the kernel does not say.
fn tcx_programs(ifindex: u32, hook: libbpf_sys::bpf_attach_type) -> Option<Vec<u32>> {
    let mut programs = vec![0; PROGRAMS];
    let mut options = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: programs.as_mut_ptr(),
        ..Default::default()
    };
    options.__bindgen_anon_1.count = PROGRAMS as u32;
    // SAFETY: `options` states its own size, `programs` has room for `count` numbers, and both
    // outlive the call.
    let result = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as i32, hook, &raw mut options) };
    // SAFETY: the kernel has set the number of programs.
    let count = unsafe { options.__bindgen_anon_1.count };
    programs.truncate(count as usize);
    (result == 0).then_some(programs)
}

/// The kernel's message about one link (RTM_GETLINK). libbpf's query of XDP programs dumps all links
/// for each.
fn link_message(ifindex: u32) -> io::Result<Vec<u8>> {
    let request_len = LINK_HEADERS as u32;
    let mut request = [0; LINK_HEADERS];
    request[..4].copy_from_slice(&request_len.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request[20..24].copy_from_slice(&ifindex.to_ne_bytes());
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        rustix::net::SocketFlags::CLOEXEC,
        // NETLINK_ROUTE, which is 0.
        None,
    )?;
    rustix::net::send(&socket, &request, rustix::net::SendFlags::empty())?;
    let mut reply = vec![0; 16 << 10];
    let (len, _) = rustix::net::recv(&socket, &mut reply[..], rustix::net::RecvFlags::empty())?;
    reply.truncate(len);
    if reply.get(4..6) == Some(&libc::RTM_NEWLINK.to_ne_bytes()) {
        Ok(reply)
    } else {
        Err(io::Error::other("the kernel sent no link message"))
    }
}

/// The programs in the attribute IFLA_XDP of a link message: one, or one for each mode
/// (linux/if_link.h; net/core/rtnetlink.c, `rtnl_xdp_fill`).
fn xdp_programs(message: &[u8]) -> Vec<u32> {
    const IFLA_XDP_PROG_ID: u16 = 4;
    const IFLA_XDP_HW_PROG_ID: u16 = 7;
    let attributes = message.get(LINK_HEADERS..).unwrap_or_default();
    let xdp = attribute(attributes, libc::IFLA_XDP).unwrap_or_default();
    let mut programs: Vec<u32> = (IFLA_XDP_PROG_ID..=IFLA_XDP_HW_PROG_ID)
        .filter_map(|kind| attribute(xdp, kind)?.first_chunk())
        .map(|id| u32::from_ne_bytes(*id))
        .filter(|id| *id != 0)
        .collect();
    programs.dedup();
    programs
}

/// The value of the attribute of a type (linux/netlink.h, `struct nlattr`).
fn attribute(mut all: &[u8], kind: u16) -> Option<&[u8]> {
    const TYPE: u16 = 0x3fff;
    while let [a, b, c, d, ..] = *all {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = all.get(4..len)?;
        if u16::from_ne_bytes([c, d]) & TYPE == kind {
            return Some(value);
        }
        all = all.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(xdp: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; LINK_HEADERS];
        bytes.extend(nla(3, b"eth0\0"));
        bytes.extend(nla(libc::IFLA_XDP | 0x8000, xdp));
        bytes
    }

    #[test]
    fn the_programs_of_all_modes_are_found() {
        let (none, native) = (nla(2, &[0]), nla(2, &[1]));
        assert_eq!(xdp_programs(&message(&none)), [0; 0]);
        assert_eq!(xdp_programs(&[0; LINK_HEADERS]), [0; 0]);
        let id = |kind, id: u32| nla(kind, &id.to_ne_bytes());
        let one = [native.clone(), id(4, 9), id(5, 9)].concat();
        assert_eq!(xdp_programs(&message(&one)), [9]);
        let several = [nla(2, &[4]), id(6, 11), id(5, 12)].concat();
        assert_eq!(xdp_programs(&message(&several)), [12, 11]);
    }

    #[test]
    fn attributes_that_are_cut_short_end_the_search() {
        for bytes in [&[8, 0][..], &[3, 0, 4, 0, 1], &[200, 0, 4, 0, 1, 2, 3, 4]] {
            assert_eq!(attribute(bytes, 4), None);
        }
    }

    #[test]
    fn the_loopback_interface_is_asked_about() {
        let probe = |xdp| Probe {
            name: "lo".to_owned(),
            ifindex: 1,
            xdp,
            tcx: Vec::new(),
        };
        let now = probe(None).ask().unwrap();
        assert!(now.same && !now.preceded && now.queues == 1, "{now:?}");
        assert!(!probe(Some(u32::MAX)).ask().unwrap().same);
        let other = Probe {
            ifindex: 2_000_000_000,
            ..probe(None)
        };
        assert!(!other.ask().unwrap().same);
    }
}
