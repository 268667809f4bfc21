//! Decoded messages in the format of `tests/golden/bgp-read`, which shows what tshark decodes.

use std::fmt::Write as _;

use super::super::wire::*;
use super::vectors::read;

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut out, octet| {
        write!(out, "{octet:02x}").unwrap();
        out
    })
}

fn attributes(lines: &mut Vec<String>, a: &Attributes) {
    lines.push(format!("origin {}", a.origin as u8));
    lines.extend(a.med.map(|v| format!("multi_exit_disc {v}")));
    lines.extend(a.local_pref.map(|v| format!("local_pref {v}")));
    lines.extend(a.originator_id.map(|v| format!("originator_id {v}")));
    let path: Vec<String> = a
        .as_path
        .0
        .iter()
        .flat_map(|s| s.parts().1)
        .map(u32::to_string)
        .collect();
    if !path.is_empty() {
        lines.push(format!("as_path {}", path.join(" ")));
    }
    lines.extend(a.cluster_list.iter().map(|v| format!("cluster_id {v}")));
    lines.push(format!("next_hop {}", a.next_hop));
    lines.extend(a.extended.iter().map(|c| format!("extended {}", hex(&c.0))));
    if let Some(pmsi) = &a.pmsi {
        let PmsiTunnel::IngressReplication(Some(address)) = pmsi.tunnel else {
            panic!("{pmsi:?}")
        };
        lines.push(format!("pmsi flags {:02x}", pmsi.flags));
        lines.push("pmsi type 6".to_owned());
        lines.push(format!("pmsi ingress_rep_ip {address}"));
    }
}

fn capability(capability: &Capability) -> String {
    match capability {
        Capability::Multiprotocol(f) => format!("1 mp.afi={} mp.safi={}", f.afi, f.safi),
        Capability::RouteRefresh => "2".to_owned(),
        Capability::ExtendedMessage => "6".to_owned(),
        Capability::GracefulRestart {
            restarting,
            notification,
            time,
            families,
        } => {
            let flags = format!(
                "gr.timers.restart_flag={} gr.timers.notification_flag={}",
                u8::from(*restarting),
                u8::from(*notification)
            );
            let families: String = families
                .iter()
                .map(|f| {
                    format!(
                        " gr.afi={} gr.safi={} gr.flag.pfs={}",
                        f.family.afi,
                        f.family.safi,
                        u8::from(f.preserved)
                    )
                })
                .collect();
            format!("64 {flags} gr.timers.restart_time={time}{families}")
        }
        Capability::FourOctetAs(asn) => format!("65 4as={asn}"),
        Capability::EnhancedRouteRefresh => "70".to_owned(),
        Capability::LongLived(_) => "71".to_owned(),
        Capability::Fqdn { host, .. } => format!("73 orf.fqdn.hostname={host}"),
        Capability::SoftwareVersion(_) => "75".to_owned(),
        Capability::Other { code, .. } => code.to_string(),
    }
}

/// The message in the format of `tests/golden/bgp-read`.
pub(super) fn render(name: &str, message: &[u8]) -> Vec<String> {
    let mut lines = vec![format!("type {}", message[18])];
    match read(name, message) {
        BgpMessage::Keepalive => {}
        BgpMessage::Open(open) => {
            lines.push("version 4".to_owned());
            lines.push(format!("myas {}", open.my_as));
            lines.push(format!("holdtime {}", open.hold_time));
            lines.push(format!("identifier {}", open.router_id));
            lines.extend(
                open.capabilities
                    .iter()
                    .map(|c| format!("capability {}", capability(c))),
            );
        }
        BgpMessage::Notification(n) => {
            lines.push(format!("error {} {}", n.error.code, n.error.subcode));
        }
        BgpMessage::RouteRefresh(refresh) => {
            let refresh = refresh.unwrap();
            assert_eq!(refresh.kind, RefreshKind::Request);
            lines.push(format!(
                "refresh {} 0 {}",
                refresh.family.afi, refresh.family.safi
            ));
        }
        BgpMessage::Update(update) => {
            assert!(
                update.parts().errors().is_empty(),
                "{name}: {:?}",
                update.parts().errors()
            );
            if let Some(all) = update.attributes() {
                attributes(&mut lines, all);
            }
            lines.extend(update.changes().map(|change| match change {
                RouteChange::Announce(r) => format!("announce {}", r.as_golden()),
                RouteChange::Withdraw(r) => format!("withdraw {}", r.as_golden()),
            }));
        }
    }
    lines
}
