//! Keeps an interface from the host: what the tenant sends reaches only packet sockets, and what the
//! host sends is dropped before the tenant.

use vtep_bpf::{Isolated, PacketPrograms};

use super::sys;
use super::tcx::{Attached, Hook, TcxError, TcxLink};

/// The attached programs; dropping it detaches them.
#[derive(Debug)]
pub struct Isolation {
    name: String,
    programs: PacketPrograms,
    links: Vec<TcxLink>,
}

impl Isolation {
    /// Attaches the programs to the interface `name` with this index, before all other programs of
    /// tcx. From now on nothing passes between it and the host.
    ///
    /// # Errors
    /// [`TcxError`].
    pub fn attach(name: &str, ifindex: u32) -> Result<Self, TcxError> {
        let mut isolation = Self::attach_egress(name, ifindex)?;
        let ingress = isolation.programs.ingress();
        let link = TcxLink::attach((name, ifindex), Hook::Ingress, ingress)?;
        isolation.links.push(link);
        Ok(isolation)
    }

    /// As [`Self::attach`], only for what the host sends: an XDP program takes the tenant's frames.
    ///
    /// # Errors
    /// [`TcxError`].
    pub fn attach_egress(name: &str, ifindex: u32) -> Result<Self, TcxError> {
        let failed = |step| move |error| TcxError::of_bpf(name, step, &error);
        let programs = PacketPrograms::load().map_err(failed("load the tcx programs"))?;
        programs
            .set_mark(sys::mark())
            .map_err(failed("set the mark of superframes"))?;
        let link = TcxLink::attach((name, ifindex), Hook::Egress, programs.egress())?;
        Ok(Self {
            name: name.to_owned(),
            programs,
            links: vec![link],
        })
    }

    /// Sets whether sockets take the tenant's frames. While none does, they are counted.
    ///
    /// # Errors
    /// [`TcxError`].
    pub fn set_taken(&self, taken: bool) -> Result<(), TcxError> {
        let failed = |error| TcxError::of_bpf(&self.name, "note the sockets", &error);
        self.programs.set_taken(taken).map_err(failed)
    }

    /// What was dropped so far.
    #[must_use]
    pub fn isolated(&self) -> Isolated {
        self.programs.isolated()
    }

    /// The programs that are attached, by hook.
    #[must_use]
    pub(super) fn attached(&self) -> Vec<Attached> {
        self.links.iter().map(TcxLink::attached).collect()
    }
}
