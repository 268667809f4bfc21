//! An interface opened over AF_XDP, as the daemon opens its own.

use std::time::{Duration, Instant};

use vtep_dataplane::afxdp::{
    Error, Mode, Program, SocketConfig, Umem, UmemConfig, UmemMemory, XdpDevice, XskPort,
};
use vtep_dataplane::frame::Pool;

use crate::row::Failure;

/// Chunks of a link's memory: the rings full twice over.
pub const CHUNKS: u32 = 16_384;

/// Chunks for one socket to receive into.
const RECEIVE: u32 = 4096;

/// Sockets over one memory area, with one pool: what one worker has. Closed, and the XDP programs detached, when it
/// is dropped.
#[derive(Debug)]
pub struct Link {
    // Sockets go before their devices.
    /// One socket for each interface, in the order in which they were given.
    pub ports: Vec<XskPort>,
    /// The free chunks.
    pub pool: Pool<UmemMemory>,
    /// The devices with their programs.
    pub devices: Vec<XdpDevice>,
}

impl Link {
    /// Opens one queue of each interface in the caller's namespace.
    ///
    /// # Errors
    /// [`Failure`] naming the interface.
    pub fn open(interfaces: &[(&str, Program)], queue: u32) -> Result<Self, Failure> {
        let opening = || Failure::of("opening AF_XDP");
        let umem = Umem::new(UmemConfig {
            frames: CHUNKS,
            ..UmemConfig::default()
        })
        .map_err(opening())?;
        let pool = umem.pools(1).map_err(opening())?.pop();
        let pool = pool.ok_or_else(|| Failure::new("no pool for one worker"))?;
        let mut link = Self {
            ports: Vec::new(),
            pool,
            devices: Vec::new(),
        };
        for (name, program) in interfaces {
            let device =
                when_free(|| XdpDevice::open(name, program, Mode::Auto)).map_err(opening())?;
            let config = SocketConfig::for_chunks(RECEIVE);
            link.ports
                .push(when_free(|| device.bind(queue, &umem, config)).map_err(opening())?);
            link.devices.push(device);
        }
        Ok(link)
    }

    /// How each interface is attached and bound: "tenant0 native, copy".
    #[must_use]
    pub fn modes(&self) -> Vec<String> {
        let pairs = self.devices.iter().zip(&self.ports);
        pairs
            .map(|(d, p)| format!("{} {}, {}", d.name(), d.attach_mode(), p.bind_mode()))
            .collect()
    }
}

/// Tries again for a second while a device or queue is busy: between fork and exec, a child that another thread starts
/// holds copies of all descriptors, also of a link that was dropped here since.
fn when_free<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match attempt() {
            Err(error)
                if error.errno() == Some(rustix::io::Errno::BUSY.raw_os_error())
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// A program that takes nothing from the host: for interfaces that only send.
#[must_use]
pub fn send_only() -> Program {
    Program::Underlay {
        locals: Vec::new(),
        udp_port: 4789,
    }
}
