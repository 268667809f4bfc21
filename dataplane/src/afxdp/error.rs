//! Errors of AF_XDP setup: which interface, why, and the remedy.

use std::io;

use super::options::BindMode;

/// A setup step failed. None of it remains.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number is out of range.
    #[error("{what} = {value}: {expected}")]
    Value {
        /// The setting.
        what: &'static str,
        /// The given value.
        value: u64,
        /// The permitted values.
        expected: &'static str,
    },
    /// The packet memory could not be allocated.
    #[error(
        "{bytes} bytes of packet memory (UMEM) in {pages} pages: {source}; {remedy}",
        remedy = memory_remedy(source)
    )]
    Memory {
        /// Requested size, bytes.
        bytes: usize,
        /// `huge` or `normal`.
        pages: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// [`super::Umem::pools`] was called a second time.
    #[error(
        "the frames of this UMEM are already divided into pools: more pools would use them twice"
    )]
    PoolsTaken,
    /// More sockets than buffer records can distinguish.
    #[error(
        "more than {max} AF_XDP sockets on one UMEM: use fewer ports or queues",
        max = crate::frame::buffer::Owner::MAX
    )]
    TooManySockets,
    /// The interface can't be queried.
    #[error("interface {interface}: {step}: {source}; {remedy}", remedy = interface_remedy(source))]
    Interface {
        /// Its name.
        interface: String,
        /// The failed step.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The XDP program did not load.
    #[error(
        "interface {interface}: load the XDP program: {source:#}; {remedy}",
        remedy = load_remedy(source)
    )]
    Load {
        /// Name of the interface.
        interface: String,
        /// libbpf's answer.
        source: vtep_bpf::Error,
    },
    /// The XDP program did not attach.
    #[error(
        "interface {interface} (MTU {mtu}): attach the XDP program ({mode}): {source}; {remedy}",
        remedy = attach_remedy(source)
    )]
    Attach {
        /// Its name.
        interface: String,
        /// Its MTU, bytes.
        mtu: u32,
        /// `native` or `generic`.
        mode: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Zero-copy is required by the configuration, but a whole frame does not fit.
    #[error(transparent)]
    Misfit(#[from] super::buffer::Misfit),
    /// A socket could not be created or bound.
    #[error(
        "interface {interface} queue {queue}: {step} ({mode}): {source}; {remedy}",
        remedy = bind_remedy(source)
    )]
    Socket {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// The failed step.
        step: &'static str,
        /// The mode.
        mode: BindMode,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Memory { source, .. }
            | Self::Interface { source, .. }
            | Self::Attach { source, .. }
            | Self::Socket { source, .. } => source.raw_os_error(),
            Self::Value { .. }
            | Self::PoolsTaken
            | Self::TooManySockets
            | Self::Load { .. }
            | Self::Misfit(_) => None,
        }
    }
}

const LOAD_REMEDY: &str = "loading needs CAP_BPF and CAP_NET_ADMIN, and Linux 6.1 or later";
/// The remedy of EMFILE and ENFILE.
pub(crate) const TOO_MANY_FILES: &str =
    "raise the limit of open files (`ulimit -Hn`, systemd: LimitNOFILE, sysctl fs.file-max)";
const NO_INTERFACE: &str = "the interface does not exist in this network namespace";
const PERMISSION: &str = "run as root or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF";
const MEMLOCK: &str =
    "grant CAP_IPC_LOCK or raise the limit of locked memory (systemd: LimitMEMLOCK=infinity)";

fn load_remedy(source: &vtep_bpf::Error) -> &'static str {
    match vtep_bpf::errno(source) {
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        _ => LOAD_REMEDY,
    }
}

fn memory_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => {
            "use fewer frames, reserve huge pages (sysctl vm.nr_hugepages), or huge-pages = false"
        }
        _ => "use fewer frames",
    }
}

fn interface_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => NO_INTERFACE,
        Some(libc::EPERM | libc::EACCES) => PERMISSION,
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        _ => "check it with `ip link show`",
    }
}

fn attach_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is attached: `ip -d link show` and `bpftool net` show it; stop the \
             program that attached it (`bpftool link` names its process), or, if it is attached \
             without a bpf_link, remove it with `ip link set IF xdp off`"
        }
        Some(libc::ENODEV | libc::ENXIO) => NO_INTERFACE,
        Some(libc::EPERM | libc::EACCES) => PERMISSION,
        Some(libc::ERANGE) => {
            "the MTU (on veth: the peer's) is too large for native XDP: lower it, \
             or mode = \"generic\""
        }
        Some(libc::EOPNOTSUPP | libc::EINVAL) => {
            "the driver has no native XDP, or none at this MTU: lower the MTU, or use mode = \"auto\" \
             or \"generic\""
        }
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        _ => "see `dmesg`, or use mode = \"generic\"",
    }
}

fn bind_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EBUSY) => {
            "another AF_XDP socket uses this queue: stop its owner (`ss --xdp` shows it)"
        }
        Some(libc::ENODEV | libc::ENXIO) => NO_INTERFACE,
        Some(libc::EPERM | libc::EACCES) => PERMISSION,
        Some(libc::ENOBUFS | libc::ENOMEM) => MEMLOCK,
        Some(libc::EOPNOTSUPP) => {
            "the driver can't bind in this mode: use mode = \"auto\", \"copy\" or \"generic\""
        }
        Some(libc::EINVAL) => "the device has no such queue, or a ring size is not a power of two",
        Some(libc::EAFNOSUPPORT) => "the kernel is built without CONFIG_XDP_SOCKETS",
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        _ => "see `dmesg`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_interface_the_cause_and_the_remedy() {
        let error = Error::Socket {
            interface: "eth0".into(),
            queue: 3,
            step: "bind",
            mode: BindMode::Copy,
            source: io::Error::from_raw_os_error(libc::EBUSY),
        };
        assert_eq!(error.errno(), Some(libc::EBUSY));
        let text = error.to_string();
        for part in ["eth0", "queue 3", "copy", "busy", "another AF_XDP socket"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
