//! Names of interfaces and ports.

use std::fmt;
use std::str::FromStr;

/// The name of a network interface: 1 to 15 bytes, without slash, colon or white space
/// (`dev_valid_name` in Linux net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(wrong)
        {
            return Err(format!(
                "invalid interface name {text:?}: must be 1 to 15 bytes, as `ip link` shows it"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies a tenant port: an interface, or one VLAN of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The Linux interface.
    pub interface: InterfaceName,
    /// The VLAN taken from a trunk, 1..=4094; `None` = every frame of the interface.
    pub vlan: Option<u16>,
}

impl PortKey {
    /// A placeholder for a key that could not be read.
    pub(super) const fn placeholder() -> Self {
        Self {
            interface: InterfaceName(String::new()),
            vlan: None,
        }
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlan {
            None => self.interface.fmt(f),
            Some(vlan) => write!(f, "{} vlan {vlan}", self.interface),
        }
    }
}

impl FromStr for PortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((interface, vlan)) = text.split_once(" vlan ") else {
            return Ok(Self {
                interface: text.parse()?,
                vlan: None,
            });
        };
        let vlan = vlan.parse().ok().filter(|v| (1..=4094).contains(v));
        let vlan =
            vlan.ok_or_else(|| format!("invalid port {text:?}: must be IF or `IF vlan 1..4094`"))?;
        Ok(Self {
            interface: interface.parse()?,
            vlan: Some(vlan),
        })
    }
}
