//! What `[bgp]` is made of: settings of the speaker, its neighbours, and their passwords.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::target::{EthernetTagMode, RouteTargets};
use crate::bgp::wire::Rd;
use crate::bgp::{MaxPrefixes, PeerConfig, RestartConfig};

/// The TCP port of BGP (RFC 4271 section 8.2.1).
pub const BGP_PORT: u16 = 179;

/// `[bgp]` without the neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpSettings {
    /// Our AS: no reserved one.
    pub asn: u32,
    /// BGP identifier, not zero.
    pub router_id: Ipv4Addr,
    /// Hold time that we propose, seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// When a MAC that moves to and fro is taken for a duplicate.
    pub duplicates: Duplicates,
}

/// Detection of duplicate MACs (RFC 7432 section 15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicates {
    /// So many moves within `window` freeze a MAC, 2 and more.
    pub moves: u32,
    /// The time in which moves are counted.
    pub window: Duration,
    /// How long a MAC stays frozen; `None` = until an operator frees it.
    pub freeze: Option<Duration>,
}

impl Default for Duplicates {
    /// Those of RFC 7432 section 15.1: 5 moves in 180 seconds; frozen until an operator frees it.
    fn default() -> Self {
        Self {
            moves: 5,
            window: Duration::from_secs(180),
            freeze: None,
        }
    }
}

/// A `[[bgp.neighbor]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpNeighbor {
    /// Its address.
    pub address: IpAddr,
    /// The AS that it must have.
    pub remote_asn: u32,
    /// The address that we connect from, of the same family; `None` = as the kernel's routes say.
    pub local_address: Option<IpAddr>,
    /// TCP port that we connect to.
    pub port: u16,
    /// Wait for the neighbour to connect.
    pub passive: bool,
    /// TCP-MD5 (RFC 2385).
    pub password: Option<Password>,
    /// Hops that the neighbour may be away, 1..=254 (GTSM, RFC 5082); `None` = not checked.
    pub ttl_security: Option<u8>,
    /// Limit of routes.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Time between tries to connect, before jitter.
    pub connect_retry: Duration,
    /// Offer messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Graceful restart; `None` = not offered.
    pub restart: Option<RestartConfig>,
    /// A text for people.
    pub description: Option<String>,
}

impl BgpNeighbor {
    /// A neighbour with the defaults of [`PeerConfig`].
    #[must_use]
    pub fn new(address: IpAddr, remote_asn: u32) -> Self {
        let default = PeerConfig::new(0, Ipv4Addr::UNSPECIFIED, remote_asn);
        Self {
            address,
            remote_asn,
            local_address: None,
            port: BGP_PORT,
            passive: default.passive,
            password: None,
            ttl_security: None,
            max_prefixes: default.max_prefixes,
            connect_retry: default.connect_retry,
            extended_messages: default.extended_messages,
            restart: default.restart,
            description: None,
        }
    }

    /// What the session is made with.
    #[must_use]
    pub fn peer_config(&self, settings: &BgpSettings, hostname: Option<String>) -> PeerConfig {
        PeerConfig {
            passive: self.passive,
            hold_time: settings.hold_time,
            connect_retry: self.connect_retry,
            extended_messages: self.extended_messages,
            restart: self.restart,
            max_prefixes: self.max_prefixes,
            hostname,
            ..PeerConfig::new(settings.asn, settings.router_id, self.remote_asn)
        }
    }
}

/// A TCP-MD5 key and the file that it was read from. The key is never shown: `Debug` tells the file only, and what is
/// saved names the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    file: PathBuf,
    key: Box<[u8]>,
}

impl Password {
    /// `TCP_MD5SIG_MAXKEYLEN` in Linux include/uapi/linux/tcp.h.
    pub const LONGEST: usize = 80;

    /// Reads a key: all of the file but for one line end at its end.
    ///
    /// # Errors
    /// The file can't be read, all users may read it, or it holds no key of 1 to 80 bytes on one line.
    pub fn read(file: &Path) -> Result<Self, String> {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let shown = file.display();
        if !file.is_absolute() {
            return Err(format!(
                "{shown} is no absolute path; write one, such as \"/etc/vtepd/bgp.key\""
            ));
        }
        let unread = |error: std::io::Error| format!("{shown}: can't be read: {error}");
        // A device or a pipe could keep us waiting for ever.
        if !std::fs::metadata(file).map_err(unread)?.is_file() {
            return Err(format!(
                "{shown} is no regular file; put the password into one"
            ));
        }
        let open = std::fs::File::open(file).map_err(unread)?;
        let mode = open.metadata().map_err(unread)?.mode();
        if mode & 0o007 != 0 {
            return Err(format!(
                "{shown}: any user may use it (mode {:04o}); chmod 600 {shown}",
                mode & 0o7777
            ));
        }
        let mut text = Vec::new();
        open.take(Self::LONGEST as u64 + 3)
            .read_to_end(&mut text)
            .map_err(unread)?;
        let key = text.strip_suffix(b"\n").unwrap_or(&text);
        let key = key.strip_suffix(b"\r").unwrap_or(key);
        if key.is_empty() || key.len() > Self::LONGEST || key.contains(&b'\n') {
            let longest = Self::LONGEST;
            return Err(format!(
                "{shown} holds no password; write 1 to {longest} bytes on one line into it"
            ));
        }
        Ok(Self {
            file: file.to_owned(),
            key: key.into(),
        })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The key, for the kernel.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// How a VNI takes part in EVPN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvpnSettings {
    /// Route distinguisher; `None` = automatic.
    pub rd: Option<Rd>,
    /// Targets of routes to take in.
    pub import: RouteTargets,
    /// Targets of our routes.
    pub export: RouteTargets,
    /// Ethernet tag of our routes.
    pub tag: EthernetTagMode,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_one_line_that_not_all_may_read() {
        let dir = std::env::temp_dir().join(format!("vtepd-password-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("key");
        let read = |text: &[u8], mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Password::read(&file)
        };
        let good = read(b"s3cret word\r\n", 0o640).unwrap();
        assert_eq!((good.key(), good.file()), (&b"s3cret word"[..], &*file));
        assert!(!format!("{good:?}").contains("s3cret"));
        assert_eq!(read(&[b'x'; 80], 0o600).unwrap().key().len(), 80);
        for (text, mode, wrong) in [
            (&b"s3cret\n"[..], 0o644, "(mode 0644); chmod 600"),
            (b"\n", 0o600, "holds no password; write 1 to 80 bytes"),
            (b"s3cret\ntwo\n", 0o600, "holds no password"),
            (&[b'x'; 81], 0o600, "holds no password"),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(
                error.contains(wrong) && !error.contains("s3cret"),
                "{error}"
            );
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            Password::read(&file)
                .unwrap_err()
                .contains("can't be read: No such file")
        );
        assert!(
            Password::read(Path::new("/dev/zero"))
                .unwrap_err()
                .contains("no regular file")
        );
        assert!(
            Password::read(Path::new("key"))
                .unwrap_err()
                .contains("no absolute path")
        );
    }
}
