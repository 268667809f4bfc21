//! The answers of `show` as text.

pub mod bgp;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::api::show::{
    AttachMode, BindMode, DaemonStatus, DropRow, FloodRow, InterfaceRole, Io, LearningRow, MacKind,
    MacRow, NeighborRow, PathState, PortRow, PortState, UnderlayRow, VniRow, WorkerRow,
};
use crate::cli::table::{Table, duration, list, or_dash};
use crate::config::PortKey;

/// The word of each variant.
macro_rules! words {
    ($function:ident, $kind:ident, $($variant:ident $word:literal),*) => {
        pub(super) const fn $function(value: $kind) -> &'static str {
            match value { $($kind::$variant => $word,)* }
        }
    };
}

words!(role, InterfaceRole, Underlay "underlay", Tenant "tenant");
words!(kind, MacKind, Local "local", Remote "remote", Static "static");
words!(port_state, PortState, Up "up", Down "down", Absent "absent", Failed "failed");
words!(path_state, PathState, Up "up", Resolving "resolving", Unresolved "unresolved");

/// How sockets are bound.
fn bind_mode(mode: BindMode, multi_buffer: Option<bool>) -> String {
    let chunks = if multi_buffer == Some(true) {
        ", multi-buffer"
    } else {
        ""
    };
    format!("{}{chunks}", mode.word())
}

/// `show status`.
pub(super) fn status(status: &DaemonStatus) -> String {
    let mut out = String::new();
    let state = if status.degraded.is_empty() {
        "running"
    } else {
        "DEGRADED"
    };
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "vtepd {}, {state}, up {}",
        status.version,
        duration(status.uptime)
    );
    for reason in &status.degraded {
        let _ = writeln!(out, "  degraded: {reason}");
    }
    for note in status.interfaces.iter().flat_map(|row| &row.notes) {
        let _ = writeln!(out, "  note: {note}");
    }
    let _ = writeln!(
        out,
        "VTEP {}, UDP port {}",
        list(&status.addresses),
        status.udp_port
    );
    if let Some(bgp) = &status.bgp {
        let drops = match bgp.listener_drops {
            0 => String::new(),
            drops => format!("; {drops} TCP segments dropped at the BGP port"),
        };
        let _ = writeln!(
            out,
            "BGP sessions: {} of {} established{drops}",
            bgp.established, bgp.configured
        );
    }
    let tables = &status.tables;
    let _ = writeln!(
        out,
        "Workers {}, UMEM frames {}",
        status.workers, tables.frames
    );
    let _ = writeln!(
        out,
        "VNIs {}, ports {}, MACs {}, VTEPs {}, neighbors {}",
        tables.vnis, tables.ports, tables.macs, tables.vteps, tables.neighbors
    );
    let turn = &status.longest_turn;
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let _ = writeln!(
        out,
        "Longest turn of the control thread {}, of which {} {}\n",
        ms(turn.seconds),
        turn.part,
        ms(turn.part_seconds)
    );
    let mut table = Table::new(["Interface", "Role", "I/O", "XDP", "AF_XDP", ">Queues"]);
    for row in &status.interfaces {
        table.row([
            row.interface.clone(),
            role(row.role).to_owned(),
            or_dash(row.io.map(Io::word)),
            or_dash(row.attach.map(AttachMode::word)),
            or_dash(row.bind.map(|mode| bind_mode(mode, row.multi_buffer))),
            row.queues.to_string(),
        ]);
    }
    out + &table.render()
}

/// `show vni`.
pub(super) fn vni(rows: &[VniRow]) -> String {
    let mut table = Table::new([
        ">VNI",
        ">Ports",
        ">Remote VTEPs",
        ">Local MACs",
        ">Remote MACs",
        ">Neighbors",
        ">Learned IPs",
        ">RX frames",
        ">RX bytes",
        ">TX frames",
        ">TX bytes",
        ">Drops",
    ]);
    for row in rows {
        let traffic = &row.traffic;
        table.row([
            row.vni.to_string(),
            row.ports.to_string(),
            row.remote_vteps.to_string(),
            row.macs_local.to_string(),
            row.macs_remote.to_string(),
            row.neighbors.to_string(),
            format!("{}/{}", row.addresses, row.max_addresses),
            traffic.rx_frames.to_string(),
            traffic.rx_bytes.to_string(),
            traffic.tx_frames.to_string(),
            traffic.tx_bytes.to_string(),
            traffic.drops.to_string(),
        ]);
    }
    table.render()
}

/// `show mac`.
pub(super) fn mac(rows: &[MacRow]) -> String {
    let mut table = Table::new([
        ">VNI",
        "MAC",
        "Type",
        "Intf/Remote VTEP",
        ">Seq",
        ">IPs",
        "Flags",
        ">Age",
    ]);
    for row in rows {
        let vtep = match row.vteps.as_slice() {
            [] => row.vtep.map(|vtep| vtep.to_string()),
            members => Some(list(members)),
        };
        let place = row.port.as_ref().map(PortKey::to_string).or(vtep);
        table.row([
            row.vni.to_string(),
            row.mac.to_string(),
            kind(row.kind).to_owned(),
            or_dash(place),
            or_dash(row.sequence),
            or_dash(row.addresses),
            list(&row.flags),
            or_dash(row.age.map(duration)),
        ]);
    }
    table.render()
}

/// `show flood`.
pub(super) fn flood(rows: &[FloodRow]) -> String {
    let mut table = Table::new([">VNI", "Remote VTEPs", "Local ports"]);
    for row in rows {
        table.row([row.vni.to_string(), list(&row.vteps), list(&row.ports)]);
    }
    table.render()
}

/// `show neighbors`.
pub(super) fn neighbors(rows: &[NeighborRow]) -> String {
    let mut table = Table::new([">VNI", "IP", "MAC", "Type"]);
    for row in rows {
        table.row([
            row.vni.to_string(),
            row.ip.to_string(),
            row.mac.to_string(),
            kind(row.kind).to_owned(),
        ]);
    }
    table.render()
}

/// `show ports`. The reason why a port is not up has a line of its own, and each reason for a kind of
/// I/O one for all ports.
pub(super) fn ports(rows: &[PortRow]) -> String {
    let mut table = Table::new([
        "Interface",
        ">VLAN",
        ">VNI",
        "Role",
        "State",
        "I/O",
        "Offloads",
        "XDP",
        "AF_XDP",
        "Queue:Worker",
        ">RX frames",
        ">RX bytes",
        ">TX frames",
        ">TX bytes",
        ">Drops",
        ">Ring full",
        ">Suppressed",
        ">Learned MACs",
        ">IPs",
        ">Refused",
    ]);
    let mut reasons = String::new();
    for row in rows {
        let queues: Vec<_> = row
            .queues
            .iter()
            .map(|q| match q.worker {
                Some(worker) => format!("{}:{worker}", q.queue),
                None => format!("{}:-", q.queue),
            })
            .collect();
        let (traffic, learning) = (&row.traffic, row.learning.as_ref());
        table.row([
            row.interface.clone(),
            or_dash(row.vlan),
            or_dash(row.vni),
            role(row.role).to_owned(),
            port_state(row.state).to_owned(),
            or_dash(row.io.map(Io::word)),
            if row.offloads.is_empty() {
                "-".to_owned()
            } else {
                row.offloads.join(",")
            },
            or_dash(row.attach.map(AttachMode::word)),
            or_dash(row.bind.map(|mode| bind_mode(mode, row.multi_buffer))),
            list(&queues),
            traffic.rx_frames.to_string(),
            traffic.rx_bytes.to_string(),
            traffic.tx_frames.to_string(),
            traffic.tx_bytes.to_string(),
            traffic.drops.to_string(),
            (row.xdp.rx_ring_full + row.xdp.rx_dropped).to_string(),
            row.events_suppressed.to_string(),
            or_dash(learning.map(learned_macs)),
            or_dash(learning.map(|of| format!("{}/{}", of.addresses, of.max_addresses))),
            or_dash(learning.map(|of| of.refused.values().sum::<u64>())),
        ]);
        if let Some(reason) = &row.reason {
            let _ = writeln!(reasons, "{}: {reason}", row.interface);
        }
    }
    let interfaces = rows.iter().filter_map(|row| {
        let why = row.io_reason.as_deref()?;
        Some((row.io?, why, row.interface.as_str()))
    });
    table.render() + &reasons + &io_reasons(interfaces)
}

/// Interfaces that a line of `show ports` names.
const NAMED: usize = 4;

/// Why interfaces have their kind of I/O: a line for each reason.
fn io_reasons<'a>(interfaces: impl Iterator<Item = (Io, &'a str, &'a str)>) -> String {
    let mut kinds: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (io, why, name) in interfaces {
        kinds.entry((io.word(), why)).or_default().insert(name);
    }
    let mut out = String::new();
    for ((io, why), names) in kinds {
        let names: Vec<_> = names.into_iter().collect();
        let (first, more) = names.split_at(names.len().min(NAMED));
        let first = first.join(", ");
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = writeln!(out, "I/O {io}: {why} ({first}{more})");
    }
    out
}

/// Learned MACs and their limit; the limit of a port that learns none is 0.
fn learned_macs(learning: &LearningRow) -> String {
    format!("{}/{}", learning.macs, learning.learn_limit.unwrap_or(0))
}

/// `show workers`.
pub(super) fn workers(rows: &[WorkerRow]) -> String {
    let mut table = Table::new([
        ">Worker",
        ">Core",
        ">Busy %",
        ">Iterations",
        ">Frames",
        ">Free UMEM frames",
    ]);
    for row in rows {
        table.row([
            row.id.to_string(),
            or_dash(row.core),
            format!("{:.1}", row.busy),
            row.iterations.to_string(),
            row.frames.to_string(),
            row.frames_free.to_string(),
        ]);
    }
    table.render()
}

/// `show underlay`.
pub(super) fn underlay(rows: &[UnderlayRow]) -> String {
    let mut table = Table::new([
        "VTEP",
        "State",
        "Via",
        "Device",
        "I/O",
        "Neighbor MAC",
        ">MTU",
        ">RX frames",
        ">TX frames",
        ">Drops",
        "Reason",
    ]);
    for row in rows {
        table.row([
            row.vtep.to_string(),
            path_state(row.state).to_owned(),
            or_dash(row.via),
            match &row.device {
                Some(bond) if !row.members.is_empty() => {
                    format!("{bond} ({})", row.members.join(", "))
                }
                device => or_dash(device.as_ref()),
            },
            or_dash(row.io.map(Io::word)),
            or_dash(row.mac),
            row.path_mtu
                .filter(|path| row.mtu == Some(*path))
                .map_or_else(|| or_dash(row.mtu), |path| format!("{path} (path)")),
            row.traffic.rx_frames.to_string(),
            row.traffic.tx_frames.to_string(),
            row.traffic.drops.to_string(),
            row.reason.clone().unwrap_or_default(),
        ]);
    }
    let devices = rows.iter().filter_map(|row| {
        let name = row.device.as_deref()?;
        Some((row.io?, row.io_reason.as_deref()?, name))
    });
    table.render() + &io_reasons(devices)
}

/// `show drops`.
pub(super) fn drops(rows: &[DropRow]) -> String {
    let mut table = Table::new(["By", "Reason", ">Frames", "Meaning"]);
    for row in rows {
        table.row([
            or_dash(row.by.as_ref()),
            row.reason.clone(),
            row.count.to_string(),
            row.explain.clone(),
        ]);
    }
    table.render()
}
