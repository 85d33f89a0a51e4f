//! A layer as a value: what one stage changed.

use std::collections::BTreeMap;

use kiln_model::digest::Sha256;

/// A path in a tree: bytes, relative to its root, without a slash at either end; the root itself is empty.
pub type PathBytes = Vec<u8>;

/// What one stage changed, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// New and changed files, and what is gone; parents come before their children.
    pub changes: BTreeMap<PathBytes, Change>,
}

/// What happened to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there like this.
    Node(Node),
    /// It is a directory, and nothing of the layers below is seen in it.
    Opaque(Node),
    /// It is one more name of a file of the same layer.
    HardLink {
        /// That file's first name in the order of bytes, where its [`Node`] is.
        to: PathBytes,
    },
    /// What the layers below have here is gone.
    Gone,
}

/// One file of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner, as the tree has it.
    pub uid: u32,
    /// Group, as the tree has it.
    pub gid: u32,
    /// Time of modification, in seconds since 1970.
    pub modified: i64,
    /// Extended attributes by full name, such as `security.capability`, in the form an image needs.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size.
        size_bytes: u64,
        /// Digest of its content.
        sha256: Sha256,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Change {
    /// The file that is there, if this change says what it is.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) | Self::Opaque(node) => Some(node),
            Self::HardLink { .. } | Self::Gone => None,
        }
    }
}

impl Node {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory)
    }

    /// Bytes of content: 0 for all but regular files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        if let NodeKind::File { size_bytes, .. } = self.kind { size_bytes } else { 0 }
    }
}

impl Layer {
    /// The file that the layer has at a path, by whichever of its names.
    #[must_use]
    pub fn node(&self, path: &[u8]) -> Option<&Node> {
        match self.changes.get(path)? {
            Change::HardLink { to } => self.changes.get(to)?.node(),
            change => change.node(),
        }
    }
}

/// Where the file's directory is; none for the root.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    path.get(..slash)
}
