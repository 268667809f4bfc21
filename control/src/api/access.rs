//! Access to the control socket: for root, the daemon's own user, and members of the configured
//! group.
//!
//! The kernel checks the socket's mode (0660) when a client connects. This second check also holds
//! when the mode has been changed, and between the creation of the socket and the setting of its
//! mode.

use std::fs;
use std::io;

use rustix::fd::AsFd;
use rustix::net::sockopt::socket_peercred;

/// Credentials of a client from the kernel (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCredentials {
    /// Process.
    pub pid: i32,
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
}

impl ClientCredentials {
    /// The other end of `socket`.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let cred = socket_peercred(socket)?;
        Ok(Self {
            pid: cred.pid.as_raw_nonzero().get(),
            uid: cred.uid.as_raw(),
            gid: cred.gid.as_raw(),
        })
    }
}

/// The rule that decides which clients are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessPolicy {
    own_uid: u32,
    group: Option<u32>,
}

impl AccessPolicy {
    /// Accepts root, the daemon's own user and, if there is one, the group.
    #[must_use]
    pub fn new(group: Option<u32>) -> Self {
        Self {
            own_uid: rustix::process::geteuid().as_raw(),
            group,
        }
    }

    /// True when the client is accepted. `groups` returns its supplementary groups.
    pub fn allows(
        &self,
        peer: ClientCredentials,
        groups: impl FnOnce(ClientCredentials) -> Vec<u32>,
    ) -> bool {
        let user = peer.uid == 0 || peer.uid == self.own_uid;
        user || self
            .group
            .is_some_and(|group| peer.gid == group || groups(peer).contains(&group))
    }
}

/// The supplementary groups of a client, from /proc. Empty when its process has ended or runs as
/// another user by now.
#[must_use]
pub fn groups(peer: ClientCredentials) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", peer.pid)).unwrap_or_default();
    let numbers = |field: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect()
    };
    // Uid: real, effective, saved, file system.
    if numbers("Uid:").get(1) == Some(&peer.uid) {
        numbers("Groups:")
    } else {
        Vec::new()
    }
}

/// The number of a group: `name` itself if it is one, else from /etc/group.
#[must_use]
pub fn group_number(name: &str) -> Option<u32> {
    // chown(2) takes -1 for "unchanged".
    let number = |text: &str| text.parse().ok().filter(|gid| *gid != u32::MAX);
    number(name).or_else(|| {
        let groups = fs::read_to_string("/etc/group").ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| number(fields.nth(1)?))?
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_the_own_user_and_the_group_are_accepted() {
        let policy = AccessPolicy {
            own_uid: 500,
            group: Some(77),
        };
        let peer = |uid, gid| ClientCredentials { pid: 1, uid, gid };
        let none = |_: ClientCredentials| Vec::new();
        assert!(policy.allows(peer(0, 0), none));
        assert!(policy.allows(peer(500, 1), none));
        assert!(policy.allows(peer(501, 77), none));
        assert!(policy.allows(peer(501, 1), |_| vec![5, 77]));
        assert!(!policy.allows(peer(501, 1), |_| vec![5]));
        assert!(
            !AccessPolicy {
                group: None,
                ..policy
            }
            .allows(peer(501, 77), |_| vec![77])
        );
    }

    #[test]
    fn groups_come_from_the_system() {
        assert_eq!(group_number("root"), Some(0));
        assert_eq!(group_number("4242"), Some(4242));
        assert_eq!(group_number("no such group"), None);
        assert_eq!(group_number("4294967295"), None);
        let uid = rustix::process::geteuid().as_raw();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(
            groups(ClientCredentials {
                pid,
                uid: uid + 1,
                gid: 0
            })
            .is_empty()
        );
    }
}
