//! The two BGP neighbors: one that sends all routes, one that does not read.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use vtep_control::bgp::PeerConfig;
use vtep_control::bgp::wire::{
    Attributes, Encoding, Esi, EvpnRoute, ExtendedCommunity, InclusiveMulticast, KEEPALIVE,
    MAX_MESSAGE_LEN, MacIp, Pmsi, PmsiTunnel, Rd, announce, withdraw,
};
use vtep_dataplane::addr::MacAddr;

use super::Scale;
use super::site::{ASN, BGP_PORT, BLOCKED, SENDER, mac};
use crate::row::Failure;

/// Remote VTEPs.
const VTEPS: usize = 50;

/// Interval of KEEPALIVEs.
const ALIVE: Duration = Duration::from_secs(5);

fn vtep(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, (number % VTEPS) as u8 + 1)
}

/// Accepts the daemon's connection, and sends OPEN and KEEPALIVE.
fn accept(own: Ipv4Addr, done: &AtomicBool) -> Result<Option<TcpStream>, Failure> {
    let what = Failure::of::<io::Error>;
    let address = SocketAddr::new(IpAddr::V4(own), BGP_PORT);
    let listener = TcpListener::bind(address).map_err(what("the neighbor's socket"))?;
    listener
        .set_nonblocking(true)
        .map_err(Failure::of("the neighbor's socket"))?;
    while !done.load(Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let open = PeerConfig::new(ASN, own, ASN).open(false, false).emit();
                let open = open.ok_or_else(|| Failure::new("the OPEN is too long"))?;
                stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.write_all(&open))
                    .and_then(|()| stream.write_all(&KEEPALIVE))
                    .map_err(Failure::of("the neighbor"))?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(Failure::of("the neighbor's socket")(error)),
        }
    }
    Ok(None)
}

const ENCODING: Encoding = Encoding {
    four_octet: true,
    limit: MAX_MESSAGE_LEN,
};

fn attributes(vni: usize) -> Attributes {
    let mut attributes = Attributes::local(IpAddr::V4(vtep(vni)));
    attributes.local_pref = Some(100);
    attributes.extended = vec![
        ExtendedCommunity::route_target(ASN as u16, vni as u32),
        ExtendedCommunity::VXLAN,
    ];
    attributes
}

fn rd(vni: usize) -> Rd {
    Rd::ipv4(vtep(vni), vni as u16)
}

/// The type 2 routes of a VNI; every tenth has an address.
fn hosts(scale: Scale, vni: usize) -> impl Iterator<Item = EvpnRoute> {
    (0..scale.routes).map(move |host| {
        let [_, _, high, low, _, last] = mac(1, vni, host);
        EvpnRoute::MacIp(MacIp {
            rd: rd(vni),
            esi: Esi::ZERO,
            tag: 0,
            mac: MacAddr(mac(1, vni, host)),
            ip: (host % 10 == 0).then(|| IpAddr::from([10, high, low, last])),
            label: vni as u32,
            label2: None,
        })
    })
}

/// UPDATEs with the routes of a VNI: its hosts, and the type 3 of their VTEP.
fn announced(scale: Scale, vni: usize, out: &mut Vec<u8>) {
    let attributes = attributes(vni);
    announce(&attributes, hosts(scale, vni), ENCODING, |message| {
        out.extend_from_slice(message);
    });
    let flood = Attributes {
        pmsi: Some(Pmsi {
            flags: 0,
            label: vni as u32,
            tunnel: PmsiTunnel::IngressReplication(Some(IpAddr::V4(vtep(vni)))),
        }),
        ..attributes
    };
    let route = EvpnRoute::InclusiveMulticast(InclusiveMulticast {
        rd: rd(vni),
        tag: 0,
        originator: IpAddr::V4(vtep(vni)),
    });
    announce(&flood, [route], ENCODING, |message| {
        out.extend_from_slice(message);
    });
}

/// Sends all routes, then withdraws and announces those of one VNI after the other, until `done`.
pub(super) fn send(scale: Scale, done: &AtomicBool) -> Result<(), Failure> {
    let Some(mut stream) = accept(SENDER, done)? else {
        return Ok(());
    };
    let mut reading = stream.try_clone().map_err(Failure::of("the neighbor"))?;
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while matches!(reading.read(&mut buffer), Ok(count) if count > 0) {}
        });
        let sent = send_all(&mut stream, scale, done);
        // The daemon may have closed it already.
        let _ = stream.shutdown(std::net::Shutdown::Both);
        drop(reader.join());
        // An error after the end is that of the closed connection.
        sent.or_else(|error| {
            if done.load(Relaxed) {
                Ok(())
            } else {
                Err(error)
            }
        })
        .map_err(Failure::of("the neighbor that sends routes"))
    })
}

fn send_all(stream: &mut TcpStream, scale: Scale, done: &AtomicBool) -> io::Result<()> {
    let mut alive = Instant::now();
    let mut message = Vec::new();
    for vni in 1..=scale.vnis {
        message.clear();
        announced(scale, vni, &mut message);
        stream.write_all(&message)?;
        if done.load(Relaxed) {
            return Ok(());
        }
    }
    for vni in (1..=scale.vnis).cycle() {
        if done.load(Relaxed) {
            return Ok(());
        }
        message.clear();
        withdraw(hosts(scale, vni), MAX_MESSAGE_LEN, |octets| {
            message.extend_from_slice(octets);
        });
        announced(scale, vni, &mut message);
        if alive.elapsed() > ALIVE {
            alive = Instant::now();
            message.extend_from_slice(&KEEPALIVE);
        }
        stream.write_all(&message)?;
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Establishes a session and reads nothing of what the daemon sends, until `done`.
pub(super) fn block(done: &AtomicBool) -> Result<(), Failure> {
    let Some(mut stream) = accept(BLOCKED, done)? else {
        return Ok(());
    };
    let mut alive = Instant::now();
    while !done.load(Relaxed) {
        if alive.elapsed() > ALIVE {
            alive = Instant::now();
            if let Err(error) = stream.write_all(&KEEPALIVE)
                && !done.load(Relaxed)
            {
                return Err(Failure::of("the neighbor that does not read")(error));
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
