//! Properties of a network interface, by ioctl on a socket: the socket belongs to the caller's
//! network namespace, while /sys/class/net may show the interfaces of another.

use std::ffi::{CString, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::Error;
use super::socket;
use crate::addr::MacAddr;

/// `ETHTOOL_GCHANNELS` (include/uapi/linux/ethtool.h).
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels` (include/uapi/linux/ethtool.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `ETHTOOL_GFLAGS` and `ETHTOOL_SFLAGS`, with `struct ethtool_value`; the flag of
/// `rx-vlan-offload`, `ETH_FLAG_RXVLAN` (include/uapi/linux/ethtool.h).
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// Queues that an interface may have at most, if its driver does not report it. tap: 256
/// (`MAX_TAP_QUEUES`).
const MAX_QUEUES: u32 = 256;

/// `ETHTOOL_GDRVINFO` (include/uapi/linux/ethtool.h).
const ETHTOOL_GDRVINFO: u32 = 0x03;

/// `struct ethtool_drvinfo` (include/uapi/linux/ethtool.h).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    numbers: [u32; 5],
}

/// Drivers that implement `xmo_rx_vlan_tag`. Others load a program that asks for the tag too, if they
/// have other metadata, and answer that there is none.
const REPORT_TAGS: [&str; 3] = ["veth", "ice", "mlx5_core"];

/// `struct ethtool_value` (include/uapi/linux/ethtool.h).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct EthtoolValue {
    command: u32,
    value: u32,
}

/// The properties of an interface at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(super) mac: MacAddr,
    pub(crate) mtu: u32,
    /// Its frames have an Ethernet header (ARPHRD_ETHER).
    pub(crate) ethernet: bool,
    /// Queues in use.
    pub(crate) queues: u32,
    /// Queues that it may have, at least `queues`.
    pub(super) max_queues: u32,
    /// Name of the driver; empty if it does not report one.
    pub(super) driver: String,
    /// It is up and has a carrier.
    pub(crate) link_up: bool,
    /// There is no device on a bus (PCI, virtio) behind the interface.
    pub(crate) software: bool,
}

/// A socket for requests, and the request with the name of the interface.
struct InterfaceRequest {
    socket: OwnedFd,
    request: libc::ifreq,
}

impl InterfaceRequest {
    fn new(name: &str) -> io::Result<Self> {
        let bytes = CString::new(name)
            .map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?
            .into_bytes();
        // SAFETY: all-zero bytes are a valid ifreq: integers, and unions of integers and null
        // pointers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // One byte is kept for the terminating 0.
        if bytes.is_empty() || bytes.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(&bytes) {
            *to = *from as libc::c_char;
        }
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, which has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket, request })
    }

    fn send(&mut self, command: c_ulong) -> io::Result<&libc::ifreq> {
        // SAFETY: all commands used here access one `ifreq`, and the target of its pointer if it
        // has one.
        let result =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), command as _, &raw mut self.request) };
        if result == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(&self.request)
        }
    }

    fn index(&mut self) -> io::Result<u32> {
        let request = self.send(libc::SIOCGIFINDEX)?;
        // SAFETY: the kernel has filled in this member.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    fn mtu(&mut self) -> io::Result<u32> {
        let request = self.send(libc::SIOCGIFMTU)?;
        // SAFETY: the kernel has filled in this member.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    /// Its MAC address, and whether it is an Ethernet interface.
    fn mac(&mut self) -> io::Result<(MacAddr, bool)> {
        let request = self.send(libc::SIOCGIFHWADDR)?;
        // SAFETY: the kernel has filled in this member.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mac = MacAddr(std::array::from_fn(|i| address.sa_data[i] as u8));
        Ok((mac, address.sa_family == libc::ARPHRD_ETHER))
    }

    /// Whether it is up and has a carrier (`IFF_UP`, `IFF_RUNNING`).
    fn link_up(&mut self) -> io::Result<bool> {
        let request = self.send(libc::SIOCGIFFLAGS)?;
        // SAFETY: the kernel has filled in this member.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        let wanted = libc::IFF_UP | libc::IFF_RUNNING;
        Ok(flags & wanted == wanted)
    }

    /// Queues in use, and at most; `None` if the driver does not report them (macvlan).
    fn queues(&mut self) -> io::Result<Option<(u32, u32)>> {
        let mut channels = Channels {
            command: ETHTOOL_GCHANNELS,
            ..Channels::default()
        };
        let supported = self.ethtool(&mut channels)?;
        let now = (channels.combined + channels.rx.max(channels.tx)).max(1);
        let most = channels.max_combined + channels.max_rx.max(channels.max_tx);
        Ok(supported.then_some((now, most.max(now))))
    }

    /// Turns the VLAN tag offload of received frames on or off. Returns whether it was on before and
    /// is on now.
    fn set_rx_vlan_offload(&mut self, on: bool) -> io::Result<(bool, bool)> {
        let mut flags = EthtoolValue {
            command: ETHTOOL_GFLAGS,
            value: 0,
        };
        if !self.ethtool(&mut flags)? {
            return Ok((false, false));
        }
        let before = flags.value & ETH_FLAG_RXVLAN != 0;
        if before == on {
            return Ok((before, before));
        }
        flags.command = ETHTOOL_SFLAGS;
        flags.value ^= ETH_FLAG_RXVLAN;
        // A refusal shows in the flags.
        let _ = self.ethtool(&mut flags);
        flags.command = ETHTOOL_GFLAGS;
        self.ethtool(&mut flags)?;
        Ok((before, flags.value & ETH_FLAG_RXVLAN != 0))
    }

    /// Name of the driver, and whether it names no bus of its device; a driver that reports nothing
    /// has neither.
    fn driver(&mut self) -> io::Result<(String, bool)> {
        let none = [0; 32];
        let mut info = DriverInfo {
            command: ETHTOOL_GDRVINFO,
            driver: none,
            version: none,
            firmware: none,
            bus: none,
            rom: none,
            reserved: [0; 12],
            numbers: [0; 5],
        };
        let supported = self.ethtool(&mut info)?;
        // tun and tap have no bus either, but report "tap".
        let until_zero = |bytes: &[u8; 32]| {
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        };
        let bus = until_zero(&info.bus);
        Ok((
            until_zero(&info.driver),
            !supported || matches!(&*bus, "" | "tap" | "tun" | "N/A"),
        ))
    }

    /// Sends the ethtool request in `answer`, which starts with the command and receives the
    /// result. False if the driver does not support it.
    fn ethtool<T>(&mut self, answer: &mut T) -> io::Result<bool> {
        self.request.ifr_ifru.ifru_data = std::ptr::from_mut(answer).cast();
        // The pointer to `answer`, which outlives the call, is overwritten by the next request.
        let result = self.send(libc::SIOCETHTOOL).map(|_| ());
        self.request.ifr_ifru.ifru_data = std::ptr::null_mut();
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Interface {
    /// Whether a native program can ask the driver for the VLAN tag that it strips.
    pub(super) fn reports_tags(&self) -> bool {
        REPORT_TAGS.contains(&&*self.driver)
    }

    /// The interface `name` in the caller's network namespace.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let failed = |step| {
            let interface = name.to_owned();
            move |source| Error::Interface {
                interface,
                step,
                source,
            }
        };
        let mut query = InterfaceRequest::new(name).map_err(failed("look it up"))?;
        let index = query.index().map_err(failed("look it up"))?;
        let queues = query
            .queues()
            .map_err(failed("read its number of queues"))?;
        let (queues, max_queues) = queues.unwrap_or_else(|| {
            let queues = socket::count_queues(index);
            (queues, queues.max(MAX_QUEUES))
        });
        let (driver, software) = query.driver().map_err(failed("read its driver's name"))?;
        let (mac, ethernet) = query.mac().map_err(failed("read its MAC address"))?;
        Ok(Self {
            index,
            mac,
            ethernet,
            mtu: query.mtu().map_err(failed("read its MTU"))?,
            queues,
            max_queues,
            link_up: query.link_up().map_err(failed("read its flags"))?,
            driver,
            software,
        })
    }
}

/// The VLAN tag offload of an interface that was switched off: the driver leaves tags in received
/// frames, where a socket sees them. Dropping it switches the offload on again, if it was on.
#[derive(Debug)]
pub(super) struct TagsInFrames {
    name: String,
    index: u32,
    was_on: bool,
}

impl TagsInFrames {
    /// Switches the offload of `interface` off. `None` when the driver does not, or when that has no
    /// effect: tags of veth or macvlan come from the other end, whatever the flag says.
    pub(super) fn ensure(name: &str, interface: &Interface) -> Option<Self> {
        // tap and tun read frames as the guest wrote them (drivers/net/tun.c, `tun_get_user`).
        let was_on = if interface.driver == "tun" {
            false
        } else if interface.software {
            return None;
        } else {
            let (before, now) = InterfaceRequest::new(name)
                .and_then(|mut request| request.set_rx_vlan_offload(false))
                .ok()?;
            if now {
                return None;
            }
            before
        };
        Some(Self {
            name: name.to_owned(),
            index: interface.index,
            was_on,
        })
    }
}

impl Drop for TagsInFrames {
    fn drop(&mut self) {
        if !self.was_on {
            return;
        }
        let Ok(mut request) = InterfaceRequest::new(&self.name) else {
            return;
        };
        if request.index().is_ok_and(|index| index == self.index) {
            // The interface may be going away; then nothing needs to be restored.
            let _ = request.set_rx_vlan_offload(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_exists_and_invalid_names_do_not() {
        let loopback = Interface::named("lo").unwrap();
        assert_eq!(
            (loopback.index, loopback.queues, loopback.mac),
            (1, 1, MacAddr([0; 6]))
        );
        assert!(loopback.software && loopback.max_queues >= loopback.queues);
        assert!(loopback.mtu >= 1500 && !loopback.ethernet);
        for name in ["", "nosuchif0", "a-name-far-too-long-for-linux", "a\0b"] {
            let error = Interface::named(name).unwrap_err();
            assert_eq!(error.errno(), Some(libc::ENODEV), "{name:?}: {error}");
        }
    }
}
