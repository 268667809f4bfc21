//! `[control]`: type and keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::diagnostic::Diagnostics;
use super::key::{optional, read_keys, single, string_of, write_keys};
use super::node::Located;
use super::references::HostReferences;
use super::table::TableReader;
use super::value::{Read, string};
use super::write::quoted;

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Path of the control socket, absolute.
    pub socket: PathBuf,
    /// Group that may connect, a name or a number; `None` = root only.
    pub group: Option<String>,
    /// Address that Prometheus scrapes; `None` = none.
    pub metrics: Option<SocketAddr>,
}

/// Default path of the control socket.
pub const DEFAULT_SOCKET: &str = "/run/vtepd/control.sock";

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            group: None,
            metrics: None,
        }
    }
}

keys! {
    /// The keys of `[control]`.
    pub(super) const CONTROL: Control {
        "socket" => socket: single(socket_path, |path| quoted(path.display()));
        "group" => group: optional(string_of(group));
        "metrics" => metrics: optional(string_of(socket_address));
    }
}

/// Reads `[control]`.
pub(super) fn read(
    table: &mut TableReader<'_>,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) -> Control {
    let mut control = Control::default();
    read_keys(CONTROL, &mut control, table, diagnostics);
    table.finish(diagnostics);
    table.note_lines(&mut references.places.keys);
    control
}

/// Writes `[control]`.
pub(super) fn write(control: &Control, out: &mut String) {
    out.push_str("\n[control]\n");
    write_keys(CONTROL, control, None, out);
}

fn group(value: &Located) -> Read<String> {
    match string(value)? {
        "" => Err("empty; name a group, or remove the key so that only root may connect".into()),
        name => Ok(name.to_owned()),
    }
}

fn socket_path(value: &Located) -> Read<PathBuf> {
    /// `sun_path` without its final zero (unix(7)).
    const LONGEST: usize = 107;
    let path = string(value)?;
    if !path.starts_with('/') || path.ends_with('/') || path.len() > LONGEST || path.contains('\0')
    {
        return Err(format!(
            "invalid socket path {path:?}: must be absolute, at most {LONGEST} bytes"
        ));
    }
    Ok(path.into())
}

fn socket_address(value: &Located) -> Read<SocketAddr> {
    let address = string(value)?;
    address.parse().map_err(|_| {
        format!("invalid address {address:?}: must be address and port, such as \"127.0.0.1:9464\"")
    })
}
