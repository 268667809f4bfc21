//! Cursors of pages: positions of rows in a table.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

use vtep_dataplane::addr::{MacAddr, Vni};

/// Declares a cursor of two parts, written `A/B`.
macro_rules! cursor {
    ($(#[$doc:meta])* $name:ident, $second:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub Vni, pub $second);

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.0, self.1)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let (vni, second) = text.split_once('/').ok_or(())?;
                Ok(Self(vni.parse().map_err(|_| ())?, second.parse().map_err(|_| ())?))
            }
        }
    };
}

cursor!(
    /// Position of a row of `show.mac`.
    MacCursor,
    MacAddr
);
cursor!(
    /// Position of a row of `show.neighbors`.
    NeighborCursor,
    IpAddr
);
