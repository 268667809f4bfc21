//! The release of Debian whose routing daemons a test runs: that of this host, Debian 12 with FRR
//! 8.4.4 and GoBGP 3.10, or Debian 13 with FRR 10.3 and GoBGP 3.36. Peers forgive less with each
//! release, so scenarios with peers run with both: [`on_each_release`].

use std::cell::Cell;
use std::path::Path;

use crate::trixie;

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// That of this host.
    Host,
    /// Debian 13, in a root directory of its own.
    Debian13,
}

thread_local! {
    /// A test runs in a thread of its own.
    static CURRENT: Cell<Release> = const { Cell::new(Release::Host) };
}

impl Release {
    /// The release whose daemons this thread starts.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Runs `scenario` with the daemons of this release.
    pub fn run(self, scenario: impl FnOnce()) {
        let before = CURRENT.replace(self);
        scenario();
        CURRENT.set(before);
    }

    /// The root directory of its daemons; `None` = that of this host.
    ///
    /// # Panics
    /// If it can't be created.
    #[must_use]
    pub fn root(self) -> Option<&'static Path> {
        match self {
            Self::Host => None,
            Self::Debian13 => Some(trixie::root()),
        }
    }
}

/// Makes two tests of a scenario: `NAME::debian_12` and `NAME::debian_13`.
#[macro_export]
macro_rules! on_each_release {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {
        $(
            $(#[$meta])*
            fn $name() $body

            mod $name {
                use $crate::release::Release;

                #[test]
                fn debian_12() {
                    Release::Host.run(super::$name);
                }

                #[test]
                fn debian_13() {
                    Release::Debian13.run(super::$name);
                }
            }
        )*
    };
}
