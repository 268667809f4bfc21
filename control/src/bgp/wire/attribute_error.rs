//! Errors in path attributes and how they are handled (RFC 7606).

/// The action for an error (RFC 7606 section 2), the weaker first. A session reset is an `Err`
/// instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttrErrorAction {
    /// Attribute discard: the attribute is ignored.
    AttributeDiscard,
    /// Treat-as-withdraw: the routes that the UPDATE announces are withdrawn.
    TreatAsWithdraw,
}

/// An error in a path attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttrError {
    /// Type code of the attribute.
    pub attribute: u8,
    /// How it is handled.
    pub action: AttrErrorAction,
    /// What is wrong, to follow the name of the attribute.
    pub reason: &'static str,
}

impl AttrError {
    /// An error for which the attribute is discarded.
    pub(super) const fn discard(attribute: u8, reason: &'static str) -> Self {
        Self {
            attribute,
            action: AttrErrorAction::AttributeDiscard,
            reason,
        }
    }

    /// An error for which the announced routes are treated as withdrawn.
    pub(super) const fn treat_as_withdraw(attribute: u8, reason: &'static str) -> Self {
        Self {
            attribute,
            action: AttrErrorAction::TreatAsWithdraw,
            reason,
        }
    }
}
