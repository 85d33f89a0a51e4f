//! What becomes of one file of a package, given what is there (`tarobject` in `src/main/archives.c`).

/// A file to be placed, and what is known of its place.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What is to be placed.
    pub new: New,
    /// What is there.
    pub existing: Existing,
    /// Other packages that have this path.
    pub owners: &'a [Owner],
    /// Whether it is a conffile of the new package.
    pub is_conffile: bool,
}

/// What is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// What is at the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A symbolic link to a directory; `same` if the new link leads to the same one.
    LinkToDirectory {
        /// Whether it does.
        same: bool,
    },
    /// A regular file.
    File,
    /// Anything else.
    Other,
}

/// Another package that has the path, and how it and the new one stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// One of the two diverts the path.
    pub diverted: bool,
    /// It is removed, and the path is of its configuration.
    pub is_removed: bool,
    /// It has the path as a conffile that it no longer brings.
    pub is_obsolete_conffile: bool,
    /// The new package replaces it.
    pub is_replaced: bool,
    /// It replaces the new package.
    pub replaces: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Place it, in place of what is there.
    Place,
    /// What is there serves: it stays as it is, and belongs to the new package too.
    Share,
    /// What is there belongs to another package, which replaces the new one: the new package does not get it.
    Leave,
    /// Two packages have the path, and neither replaces the other. Which of the owners is the other.
    Overlap {
        /// Its place in [`Situation::owners`].
        owner: usize,
    },
}

/// Decides.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    if is_shared(situation.new, situation.existing) {
        return Decision::Share;
    }
    let mut leave = false;
    for (index, owner) in situation.owners.iter().enumerate() {
        match stands(situation, owner) {
            Standing::Fine => {}
            Standing::Leave => leave = true,
            Standing::Overlap => return Decision::Overlap { owner: index },
        }
    }
    if leave { Decision::Leave } else { Decision::Place }
}

/// A directory serves a directory, and a link to it; dpkg never replaces a directory by a link.
fn is_shared(new: New, existing: Existing) -> bool {
    match (new, existing) {
        (New::Directory, Existing::Directory | Existing::LinkToDirectory { .. }) => true,
        (New::Symlink, Existing::Directory) => true,
        (New::Symlink, Existing::LinkToDirectory { same }) => same,
        _ => false,
    }
}

enum Standing {
    Fine,
    Leave,
    Overlap,
}

fn stands(situation: &Situation<'_>, owner: &Owner) -> Standing {
    // What the other package has there is gone: if it was a directory it can be one again.
    let is_lost_directory = situation.new == New::Directory && situation.existing == Existing::Nothing;
    let takes_over = situation.is_conffile && situation.existing == Existing::File && owner.is_obsolete_conffile;
    if owner.diverted || is_lost_directory || owner.is_removed || takes_over || owner.is_replaced {
        Standing::Fine
    } else if owner.replaces {
        Standing::Leave
    } else {
        Standing::Overlap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(new: New, existing: Existing, owners: &[Owner], expected: Decision) {
        let situation = Situation { new, existing, owners, is_conffile: false };
        assert_eq!(decide(&situation), expected, "{situation:?}");
    }

    const NOTHING: Owner =
        Owner { diverted: false, is_removed: false, is_obsolete_conffile: false, is_replaced: false, replaces: false };

    #[test]
    fn the_table_of_dpkg() {
        use Decision::{Place, Share};
        for existing in [Existing::Nothing, Existing::File, Existing::Other] {
            for new in [New::Directory, New::Symlink, New::Other] {
                check(new, existing, &[], Place);
            }
        }
        check(New::Directory, Existing::Directory, &[NOTHING], Share);
        check(New::Directory, Existing::LinkToDirectory { same: false }, &[NOTHING], Share);
        check(New::Symlink, Existing::Directory, &[NOTHING], Share);
        check(New::Symlink, Existing::LinkToDirectory { same: true }, &[], Share);
        check(New::Symlink, Existing::LinkToDirectory { same: false }, &[], Place);
        check(New::Other, Existing::Directory, &[], Place);
    }

    #[test]
    fn overlaps_need_a_reason() {
        use Decision::{Leave, Overlap, Place};
        let replaced = Owner { is_replaced: true, ..NOTHING };
        let replaces = Owner { replaces: true, ..NOTHING };
        check(New::Other, Existing::File, &[NOTHING], Overlap { owner: 0 });
        check(New::Other, Existing::Nothing, &[NOTHING], Overlap { owner: 0 });
        check(New::Directory, Existing::Nothing, &[NOTHING], Place);
        check(New::Other, Existing::File, &[replaced], Place);
        check(New::Other, Existing::File, &[replaces], Leave);
        check(New::Other, Existing::File, &[replaced, replaces], Leave);
        check(New::Other, Existing::File, &[replaces, NOTHING], Overlap { owner: 1 });
        check(New::Other, Existing::File, &[Owner { diverted: true, ..NOTHING }], Place);
        check(New::Other, Existing::File, &[Owner { is_removed: true, ..NOTHING }], Place);
        // Where both say that they replace the other, the new one does.
        check(New::Other, Existing::File, &[Owner { is_replaced: true, ..replaces }], Place);
    }

    #[test]
    fn an_obsolete_conffile_is_taken_over_as_a_conffile_only() {
        let owners = [Owner { is_obsolete_conffile: true, ..NOTHING }];
        let situation = Situation { new: New::Other, existing: Existing::File, owners: &owners, is_conffile: true };
        assert_eq!(decide(&situation), Decision::Place);
        assert_eq!(decide(&Situation { is_conffile: false, ..situation }), Decision::Overlap { owner: 0 });
        assert_eq!(decide(&Situation { existing: Existing::Nothing, ..situation }), Decision::Overlap { owner: 0 });
    }
}
