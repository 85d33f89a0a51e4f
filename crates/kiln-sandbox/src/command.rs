//! A program to run in a tree, and how it ended.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// A program to run in a tree. It sees the sandbox's environment and what is added here, and nothing of Kiln's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// A path in the tree, or a name to look for in the sandbox's `PATH`.
    pub program: String,
    /// Its arguments, without the program's name.
    pub arguments: Vec<String>,
    /// Variables added to the sandbox's environment.
    pub environment: BTreeMap<String, String>,
    /// Where in the tree it starts; the sandbox's working directory if not given.
    pub working_directory: Option<Utf8PathBuf>,
    /// What its standard streams are.
    pub console: Console,
}

/// What the standard streams of a program are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// Nothing to read; what it writes to either stream becomes lines, in the order it was written.
    Lines,
    /// A terminal of the sandbox's own, joined to Kiln's, for a person at a shell. If Kiln's standard input is no terminal:
    /// Kiln's streams as they are.
    Terminal,
}

impl Command {
    /// The program with these arguments, nothing added, its output as lines.
    pub fn new(program: impl Into<String>, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            working_directory: None,
            console: Console::Lines,
        }
    }

    /// The script, for the tree's `/bin/sh`, which stops at the first command that fails.
    pub fn shell(script: impl Into<String>) -> Self {
        Self::new("/bin/sh", ["-e".to_owned(), "-c".to_owned(), script.into()])
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// By itself, with this exit code.
    Code(u8),
    /// By this signal.
    Signal(i32),
    /// It ran longer than the sandbox's limit and was killed.
    TimedOut,
    /// Its [`CancelToken`](crate::CancelToken) was thrown and it was killed.
    Cancelled,
}

impl Ending {
    /// Whether it ended by itself and says that it did its work.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Fits after the name of what ended: `postinst ended with exit code 1`.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => f.write_str("took too long and was killed"),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// What is left of a program that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub ending: Ending,
    /// The last [`LAST_LINES`](crate::LAST_LINES) lines it wrote.
    pub last_lines: Vec<String>,
    /// From start to end, namespaces and layer included.
    pub took: Duration,
}
