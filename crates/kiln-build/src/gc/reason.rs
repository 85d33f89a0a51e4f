//! Why something stays or goes, in words.

use std::fmt;

use camino::Utf8PathBuf;

/// Why something stays or goes. Fits after `3 layers:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Stays: the lock of this factory names it.
    Locked(Utf8PathBuf),
    /// Stays: it belongs to a last build of this factory.
    LastBuild(Utf8PathBuf),
    /// Stays: it lies below a failed tree that stays.
    BelowFailed,
    /// Stays: this factory may claim it, and does not say.
    Unreadable(Utf8PathBuf),
    /// Stays: a running process holds it.
    InUse,
    /// Stays: a running process may be about to claim it.
    OthersAtWork,
    /// Stays: it may still be of use.
    Recent,
    /// Stays: this factory is there.
    Factory(Utf8PathBuf),
    /// Goes: nobody claims it.
    NotLocked,
    /// Goes: the class was built anew from other layers.
    Replaced(String),
    /// Goes: no factory has this class.
    NoClass(String),
    /// Goes: its factory no longer has its class.
    ClassGone,
    /// Goes: this factory is not there any more.
    Gone(Utf8PathBuf),
    /// Goes: its factory is not there any more.
    FactoryGone,
    /// Goes: it is not whole, or was never flushed before the machine stopped.
    DoesNotCount,
    /// Goes: another version of Kiln made it.
    OtherVersion,
    /// Goes: nobody came back for it.
    Abandoned,
    /// Goes: its bytes had changed.
    Damaged,
}

impl Reason {
    /// Whether what has this reason goes.
    #[must_use]
    pub fn lets_go(&self) -> bool {
        match self {
            Self::Locked(_)
            | Self::LastBuild(_)
            | Self::BelowFailed
            | Self::Unreadable(_)
            | Self::InUse
            | Self::OthersAtWork
            | Self::Recent
            | Self::Factory(_) => false,
            Self::NotLocked
            | Self::Replaced(_)
            | Self::NoClass(_)
            | Self::ClassGone
            | Self::Gone(_)
            | Self::FactoryGone
            | Self::DoesNotCount
            | Self::OtherVersion
            | Self::Abandoned
            | Self::Damaged => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(factory) => write!(f, "locked in {factory}"),
            Self::LastBuild(factory) => write!(f, "of last builds in {factory}"),
            Self::BelowFailed => f.write_str("below failed trees"),
            Self::Unreadable(factory) => write!(f, "the lock in {factory} cannot be read, and may claim anything"),
            Self::InUse => f.write_str("in use now"),
            Self::OthersAtWork => f.write_str("claimed by nobody yet, while another kiln is at work"),
            Self::Recent => f.write_str("recent"),
            Self::Factory(factory) => write!(f, "{factory}"),
            Self::Gone(factory) => write!(f, "{factory} is gone"),
            Self::NotLocked => f.write_str("in no known factory's lock"),
            Self::Replaced(class) => write!(f, "of class {class}, replaced by newer builds"),
            Self::NoClass(class) => write!(f, "of class {class}, which no known factory has"),
            Self::ClassGone => f.write_str("of classes that their factory no longer has"),
            Self::FactoryGone => f.write_str("of factories that are gone"),
            Self::DoesNotCount => f.write_str("not whole, or lost when the machine stopped"),
            Self::OtherVersion => f.write_str("of another version of kiln"),
            Self::Abandoned => f.write_str("left for too long"),
            Self::Damaged => f.write_str("damaged"),
        }
    }
}
