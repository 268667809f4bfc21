//! The answers of `show bgp` and the events of `monitor` as text.

use std::fmt::Write;

use super::port_state;
use crate::api::bgp::{
    BgpNeighborDetail, BgpSummary, PastEvent, RouteRow, SegmentRow, SessionState, SummaryRow,
};
use crate::api::event::{ApiEvent, SessionEvent};
use crate::cli::table::{Table, count, duration, list, or_dash};
use crate::config::{PortKey, target_text};

/// The state, or the number of routes of an established session, as in FRR's `State/PfxRcd`.
fn state(row: &SummaryRow) -> String {
    match row.state {
        SessionState::Established => row.routes_received.to_string(),
        other => format!("{other:?}"),
    }
}

/// `show bgp summary`. The reason why a session is down has a line of its own.
pub(in crate::cli) fn summary(summary: &BgpSummary) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "BGP router identifier {}, local AS number {}, EVPN routes {}\n",
        summary.router_id, summary.asn, summary.routes
    );
    let mut table = Table::new([
        "Neighbor",
        ">AS",
        ">MsgRcvd",
        ">MsgSent",
        ">Up/Down",
        ">State/PfxRcd",
        ">PfxInst",
        ">PfxSnt",
        "Desc",
    ]);
    let mut reasons = String::new();
    for row in &summary.neighbors {
        table.row([
            row.address.to_string(),
            row.remote_as.to_string(),
            row.messages_received.to_string(),
            row.messages_sent.to_string(),
            row.uptime
                .or(row.down_for)
                .map_or_else(|| "never".to_owned(), duration),
            state(row),
            row.routes_installed.to_string(),
            row.routes_advertised.to_string(),
            row.description.clone().unwrap_or_default(),
        ]);
        if let Some(why) = &row.not_established {
            let _ = writeln!(reasons, "{}: {}", row.address, why.reason);
        }
    }
    out + &table.render() + &reasons
}

/// `show bgp neighbor`.
pub(in crate::cli) fn neighbor(detail: &BgpNeighborDetail) -> String {
    let row = &detail.summary;
    let mut lines = vec![format!(
        "BGP neighbor {}, remote AS {}",
        row.address, row.remote_as
    )];
    let mut field = |what: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {what}: {value}")));
    };
    let seconds = |time: Option<u64>| time.map(|time| format!("{time} s"));
    field("Description", row.description.clone());
    let silent = if detail.silent {
        ", silent: no routes, not even End-of-RIB"
    } else {
        ""
    };
    field("State", Some(format!("{:?}{silent}", row.state)));
    field("Up for", row.uptime.map(duration));
    field("Idle for another", seconds(detail.idle_for));
    field("Times established", Some(detail.established.to_string()));
    field(
        "Not established",
        row.not_established.as_ref().map(|why| why.reason.clone()),
    );
    let past = |event: &Option<PastEvent>| {
        let shown = |event: &PastEvent| format!("{} ago: {}", duration(event.ago), event.reason);
        event.as_ref().map(shown)
    };
    field("Last session ended", past(&detail.last_session_ended));
    field("Last OPEN failed", past(&detail.last_open_failed));
    field("Last failed connection", past(&detail.last_connect_failed));
    field("Failed attempts", Some(detail.failed_attempts.to_string()));
    field(
        "Router identifier",
        detail.router_id.map(|id| id.to_string()),
    );
    field("Host name", detail.hostname.clone());
    field("Software", detail.software.clone());
    field(
        "Local address",
        detail.local_address.map(|address| address.to_string()),
    );
    field("Transport", Some(transport(detail)));
    field("Capabilities", Some(list(&detail.capabilities)));
    field("Hold time", seconds(detail.hold_time));
    field("Keepalive", seconds(detail.keepalive));
    field(
        "Graceful restart",
        detail.graceful_restart.as_ref().map(|restart| {
            let kept = if restart.preserved {
                "forwarding kept"
            } else {
                "forwarding not kept"
            };
            format!(
                "{} s, {kept}, {}",
                restart.restart_time,
                count(restart.stale_routes, "stale route")
            )
        }),
    );
    counters(detail, &mut field);
    lines.join("\n") + "\n"
}

/// How connections are made.
fn transport(detail: &BgpNeighborDetail) -> String {
    let mode = if detail.passive { ", passive" } else { "" };
    let md5 = if detail.password { ", TCP-MD5" } else { "" };
    let hops = detail
        .ttl_security
        .map(|hops| format!(", at most {} away", count(hops.into(), "hop")))
        .unwrap_or_default();
    format!("TCP port {}{mode}{md5}{hops}", detail.port)
}

/// The counters of `show bgp neighbor`.
fn counters(detail: &BgpNeighborDetail, field: &mut impl FnMut(&str, Option<String>)) {
    let row = &detail.summary;
    field(
        "Messages",
        Some(format!(
            "{} received, {} sent",
            row.messages_received, row.messages_sent
        )),
    );
    field(
        "Routes",
        Some(format!(
            "{} received, {} installed, {} advertised",
            row.routes_received, row.routes_installed, row.routes_advertised
        )),
    );
    field(
        "Route limit",
        detail.max_prefixes.map(|limit| limit.to_string()),
    );
    field(
        "Errors",
        Some(format!(
            "{} treated as withdrawn, {} with attributes discarded, {} skipped, {}",
            count(detail.treated_as_withdrawn, "UPDATE"),
            detail.attributes_discarded,
            count(detail.routes_skipped, "route"),
            count(detail.invalid_addresses, "invalid host address")
        )),
    );
    field("Waiting to be sent", Some(count(detail.queued, "octet")));
}

/// A route as FRR writes it: `[2]:[tag]:[48]:[MAC]:[32]:[IP]`, `[3]:[tag]:[32]:[originator]`.
fn route(row: &RouteRow) -> String {
    let bits = |ip: &std::net::IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    let mut out = format!("[{}]:[{}]", row.kind, row.tag);
    // Writing to a string can't fail.
    if let Some(mac) = row.mac {
        let _ = write!(out, ":[48]:[{mac}]");
    }
    for ip in row.ip.iter().chain(&row.originator) {
        let _ = write!(out, ":[{}]:[{ip}]", bits(ip));
    }
    if let Some(prefix) = &row.prefix {
        let _ = write!(out, ":[{prefix}]");
    }
    out
}

/// `show bgp segments`: a line for each VTEP of a segment.
pub(in crate::cli) fn segments(rows: &[SegmentRow]) -> String {
    let mut table = Table::new([
        "ESI", ">VNI", "Mode", "VTEP", "Per ES", "Per EVI", ">MACs", "Used",
    ]);
    let yes = |set: bool| if set { "yes" } else { "no" }.to_owned();
    for row in rows {
        for member in &row.vteps {
            table.row([
                row.esi.to_string(),
                row.vni.to_string(),
                if row.single_active {
                    "single-active".to_owned()
                } else {
                    "all-active".to_owned()
                },
                member.vtep.to_string(),
                yes(member.per_es),
                yes(member.per_evi),
                member.macs.to_string(),
                yes(member.used),
            ]);
        }
    }
    table.render()
}

/// `show bgp routes`. The last columns show why a route is not used, or what is unusual about it.
pub(in crate::cli) fn routes(rows: &[RouteRow]) -> String {
    let mut table = Table::new([
        "St",
        "RD",
        "Route",
        "Next hop",
        ">VNI",
        "From",
        "Path",
        "RT",
        ">Seq",
        "Not used because",
        "Note",
    ]);
    for row in rows {
        let mut status = String::new();
        let flags = [
            (row.best, '>'),
            (row.installed, 'i'),
            (row.stale, 'S'),
            (row.sticky, 's'),
        ];
        status.extend(
            flags
                .into_iter()
                .filter_map(|(set, letter)| set.then_some(letter)),
        );
        let targets: Vec<_> = row
            .route_targets
            .iter()
            .map(|target| target_text(*target))
            .collect();
        table.row([
            status,
            row.rd.to_string(),
            route(row),
            row.next_hop.to_string(),
            or_dash(row.vni),
            row.neighbor
                .map_or_else(|| "local".to_owned(), |neighbor| neighbor.to_string()),
            row.as_path.clone(),
            list(&targets),
            row.sequence.to_string(),
            row.unused_reason.clone().unwrap_or_default(),
            row.note.clone().unwrap_or_default(),
        ]);
    }
    "Status: > best, i installed, S stale, s sticky\n".to_owned() + &table.render()
}

/// One event of `monitor`.
pub(in crate::cli) fn event(event: &ApiEvent) -> String {
    let reason = |reason: &Option<String>| {
        reason
            .as_ref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default()
    };
    match event {
        ApiEvent::Mac(mac) => {
            let vtep = mac.vtep.map(|vtep| vtep.to_string());
            let place = or_dash(mac.port.as_ref().map(PortKey::to_string).or(vtep));
            let what = mac.event.word();
            let ip = mac.ip.map(|ip| format!(" ip {ip}")).unwrap_or_default();
            format!(
                "mac {what} {} vni {}{ip} at {place} sequence {}{}",
                mac.mac,
                mac.vni,
                mac.sequence,
                reason(&mac.reason)
            )
        }
        ApiEvent::Bgp(bgp) => format!(
            "bgp {} {:?}{}{}",
            bgp.neighbor,
            bgp.state,
            match bgp.event {
                SessionEvent::Failed => " failed",
                SessionEvent::Established | SessionEvent::Ended => "",
            },
            reason(&bgp.reason)
        ),
        ApiEvent::Miss(miss) => {
            let wanted = miss
                .mac
                .map(|mac| mac.to_string())
                .or(miss.ip.map(|ip| ip.to_string()));
            format!("miss {} vni {}", or_dash(wanted), miss.vni)
        }
        ApiEvent::Port(port) => {
            let vni = port
                .vni
                .map(|vni| format!(" vni {vni}"))
                .unwrap_or_default();
            format!(
                "port {}{vni} {}{}",
                port.port,
                port_state(port.state),
                reason(&port.reason)
            )
        }
        ApiEvent::Lost { lost } => {
            format!("lost {}: the reader is too slow", count(*lost, "event"))
        }
    }
}
