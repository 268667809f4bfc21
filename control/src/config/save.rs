//! Writes a configuration as TOML. Equal configurations give equal texts, and reading the text
//! gives the same configuration.

use super::change::KINDS;
use super::model::Config;
use super::write::line;
use super::{bgp, bgp_neighbor, control, vni, vtep};

/// The configuration as a file that [`load`](fn@super::load) reads.
#[must_use]
pub fn save(config: &Config) -> String {
    let mut out = String::new();
    vtep::write(config.vtep(), &mut out);
    control::write(config.control(), &mut out);
    if let Some(settings) = config.bgp() {
        bgp::write(settings, config.vtep().addresses, &mut out);
        for neighbor in config.bgp_neighbors().values() {
            bgp_neighbor::write(neighbor, &mut out);
        }
    }
    for (vni, content) in config.vnis() {
        out.push_str("\n[[vni]]\n");
        line(&mut out, "id", vni);
        KINDS
            .iter()
            .for_each(|kind| kind.write_key(content, &mut out));
        vni::write(content.settings(), &mut out);
        KINDS
            .iter()
            .for_each(|kind| kind.write_tables(content, &mut out));
    }
    out
}
