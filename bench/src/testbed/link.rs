//! Interfaces opened over AF_XDP, in the same way as the daemon opens its own.

use std::time::{Duration, Instant};

use vtep_dataplane::afxdp::{
    Error, Mode, Program, SocketConfig, Umem, UmemConfig, UmemMemory, XdpDevice, XskPort,
};
use vtep_dataplane::frame::Pool;

use crate::row::Failure;

/// Chunks of a link's memory: twice what the rings hold.
pub const CHUNKS: u32 = 16_384;

/// Chunks in the fill ring of one socket.
const RECEIVE: u32 = 4096;

/// Sockets over one UMEM with one pool, as one worker has them. Dropping it closes them and
/// detaches the XDP programs.
#[derive(Debug)]
pub struct Link {
    // Sockets are dropped before their devices.
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

    /// The attach and bind mode of each interface: "tenant0 native, copy".
    #[must_use]
    pub fn modes(&self) -> Vec<String> {
        let pairs = self.devices.iter().zip(&self.ports);
        pairs
            .map(|(d, p)| format!("{} {}, {}", d.name(), d.attach_mode(), p.bind_mode()))
            .collect()
    }
}

/// Retries for a second while a device or queue is busy: between fork and exec, a child of another
/// thread holds copies of all descriptors, including those of a link that was dropped here since.
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

/// An XDP program that redirects no frame, for interfaces that only send.
#[must_use]
pub fn send_only() -> Program {
    Program::Underlay {
        locals: Vec::new(),
        udp_port: 4789,
    }
}
