//! Route targets: which routes a VNI imports, and what originated routes carry (RFC 7432 section
//! 7.10, RFC 8365 section 5.1.2.1).
//!
//! ```text
//! plain     | 00 02 | AS: 2     | VNI: 4              |   65000:100         FRR
//! 4-octet   | 02 02 | AS: 4           | VNI: 2        |   4200000002:100
//! RFC 8365  | 00 02 | AS: 2     | 0x10000000 | VNI: 4 |   65000:268435556   Juniper
//! ```
//!
//! Automatic import compares the VNI only, for any AS, as FRR does: external peers have another AS.

use vtep_dataplane::addr::Vni;

use super::config::{Derivation, MacVrfConfig, TargetList};
use crate::bgp::wire::ExtendedCommunity;

/// Type 1 (VXLAN), domain 0, not manual: the bits above the VNI in a target of RFC 8365 section
/// 5.1.2.1.
const RFC8365: u32 = 0x1000_0000;

/// True if `target` is an automatic target of `vni`, in any derivation.
#[must_use]
pub fn is_automatic(target: ExtendedCommunity, vni: Vni) -> bool {
    match target.0 {
        [0, 2, _, _, a, b, c, d] => {
            let number = u32::from_be_bytes([a, b, c, d]);
            number == vni.get() || number == vni.get() | RFC8365
        }
        [2, 2, _, _, _, _, high, low] => u32::from(u16::from_be_bytes([high, low])) == vni.get(),
        _ => false,
    }
}

/// True if a route with these communities is imported into the VNI.
#[must_use]
pub fn imports(config: &MacVrfConfig, communities: &[ExtendedCommunity]) -> bool {
    let TargetList { automatic, list } = &config.import;
    let listed =
        |c: &ExtendedCommunity| (*automatic && is_automatic(*c, config.vni)) || list.contains(c);
    communities
        .iter()
        .filter(|c| c.is_route_target())
        .any(listed)
}

/// The targets of originated routes of a VNI, each once: the automatic one first, then those
/// listed.
#[must_use]
pub fn exports(config: &MacVrfConfig, local_as: u32) -> Vec<ExtendedCommunity> {
    let number = match config.derivation {
        Derivation::Plain => config.vni.get(),
        Derivation::Rfc8365 => config.vni.get() | RFC8365,
    };
    let automatic = ExtendedCommunity::route_target(local_as as u16, number);
    let TargetList {
        automatic: wanted,
        list,
    } = &config.export;
    let first = wanted.then_some(automatic);
    let others = list.iter().filter(|listed| first != Some(**listed));
    first.into_iter().chain(others.copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vni(number: u32) -> Vni {
        Vni::new(number).expect("a VNI")
    }

    #[test]
    fn both_derivations_match_for_any_as() {
        for target in [
            ExtendedCommunity::route_target(65000, 100),
            ExtendedCommunity::route_target(1, 100),
            ExtendedCommunity::route_target(65000, 268_435_556),
            ExtendedCommunity::route_target_as4(4_200_000_002, 100),
        ] {
            assert!(imports(&MacVrfConfig::new(vni(100)), &[target]), "{target}");
            assert!(
                !imports(&MacVrfConfig::new(vni(101)), &[target]),
                "{target}"
            );
        }
        assert!(!imports(
            &MacVrfConfig::new(vni(100)),
            &[ExtendedCommunity::VXLAN]
        ));
    }

    #[test]
    fn lists_override_the_automatic_targets_or_add_to_them() {
        let (own, plain) = (
            ExtendedCommunity::route_target(7, 7),
            ExtendedCommunity::route_target(65000, 100),
        );
        let targets = |automatic| TargetList {
            automatic,
            list: vec![own],
        };
        let only = MacVrfConfig {
            import: targets(false),
            ..MacVrfConfig::new(vni(100))
        };
        assert_eq!(
            (imports(&only, &[own]), imports(&only, &[plain])),
            (true, false)
        );
        let also = MacVrfConfig {
            import: targets(true),
            ..MacVrfConfig::new(vni(100))
        };
        assert_eq!(
            (imports(&also, &[own]), imports(&also, &[plain])),
            (true, true)
        );
    }

    /// (finding C4)
    #[test]
    fn a_list_with_auto_exports_the_automatic_target_too() {
        let (own, plain, juniper) = (
            ExtendedCommunity::route_target(7, 7),
            ExtendedCommunity::route_target(65000, 100),
            ExtendedCommunity::route_target(65000, 268_435_556),
        );
        let exported = |automatic, list: &[ExtendedCommunity], derivation| {
            let config = MacVrfConfig {
                export: TargetList {
                    automatic,
                    list: list.to_vec(),
                },
                derivation,
                ..MacVrfConfig::new(vni(100))
            };
            exports(&config, 65000)
        };
        assert_eq!(exported(true, &[own], Derivation::Plain), [plain, own]);
        assert_eq!(exported(true, &[own], Derivation::Rfc8365), [juniper, own]);
        assert_eq!(exported(false, &[own], Derivation::Plain), [own]);
        assert_eq!(
            exported(true, &[own, plain], Derivation::Plain),
            [plain, own],
            "each once"
        );
    }

    #[test]
    fn targets_equal_those_of_frr_and_juniper() {
        let config = MacVrfConfig::new(vni(100));
        let text = |config: &MacVrfConfig, asn| exports(config, asn)[0].to_string();
        assert_eq!(text(&config, 65000), "RT:65000:100");
        assert_eq!(text(&config, 4_200_000_002), "RT:59906:100");
        let juniper = MacVrfConfig {
            derivation: Derivation::Rfc8365,
            ..config
        };
        assert_eq!(text(&juniper, 65000), "RT:65000:268435556");
    }
}
