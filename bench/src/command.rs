//! `generate` and `sink` as commands.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use vtep_dataplane::afxdp::Program;

use crate::cli;
use crate::row::Failure;
use crate::testbed::link::{Link, send_only};
use crate::traffic::generate::{self, Pace};
use crate::traffic::sink;
use crate::traffic::template::{Shape, Template, Tunnel};

/// Set by SIGINT and SIGTERM, so that sockets are closed, programs detached and namespaces removed.
///
/// # Errors
/// [`Failure`] if a signal handler can't be installed.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(Failure::of("signals"))?;
    }
    Ok(stop)
}

fn tunnel(arguments: &cli::Generate) -> Option<Tunnel> {
    Some(Tunnel {
        source_mac: arguments.outer_from?,
        destination_mac: arguments.outer_to?,
        source: arguments.source?.into(),
        destination: arguments.destination?.into(),
        udp_port: arguments.udp_port,
        vni: arguments.vni?,
    })
}

/// Sends generated packets until a limit is reached or a signal arrives.
///
/// # Errors
/// [`Failure`] if the arguments describe no valid packet, or the interface can't be opened.
pub fn generate(arguments: &cli::Generate) -> Result<(), Failure> {
    let mut template = Template::new(&Shape {
        source: arguments.from,
        destination: arguments.to,
        destinations: arguments.macs,
        flows: arguments.flows,
        size: arguments.size,
        tunnel: tunnel(arguments),
    })?;
    let stop = stop_flag()?;
    let mut link = Link::open(&[(&arguments.interface, send_only())], arguments.queue)?;
    let idle = link.pool.available();
    let port = &mut link.ports[0];
    let pace = Pace {
        rate: arguments.rate,
        count: arguments.count,
        duration: arguments.duration,
    };
    let sent = generate::run(&mut link.pool, port, &mut template, &pace, &stop)?;
    generate::drain(&mut link.pool, port, idle)?;
    println!(
        "sent {} frames in {:.3} s: {:.0} per second",
        sent.frames,
        sent.elapsed.as_secs_f64(),
        sent.rate()
    );
    Ok(())
}

/// Receives and counts until a limit is reached or a signal arrives.
///
/// # Errors
/// [`Failure`] when the interface can't be opened.
pub fn sink(arguments: &cli::Sink) -> Result<(), Failure> {
    let stop = stop_flag()?;
    let mut link = Link::open(&[(&arguments.interface, Program::Tenant)], arguments.queue)?;
    let limits = (arguments.duration, arguments.count);
    let received = sink::run(
        &mut link.pool,
        &mut link.ports[0],
        limits,
        &stop,
        |frames| {
            if !arguments.json {
                println!("{frames} frames/s");
            }
        },
    );
    let summary = received.summary();
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string(&summary).map_err(Failure::of("JSON"))?
        );
    } else {
        println!("{summary}");
    }
    Ok(())
}
