//! Recorded facts of long work. Written once, read by many: progress bars, plain lines and JSON lines.

use serde::Serialize;

/// One fact. Serialized as a JSON object whose `event` names the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A named part of the work began; it ends when the next begins.
    PhaseStarted {
        /// What is being done: `reading indexes`, `solving class web`.
        phase: String,
    },
    /// A suite's signed Release was read and verified.
    ReleaseVerified {
        /// Repository and suite, as the lock names it: `trixie-security`.
        suite: String,
        /// The mirror it came from, without credentials.
        mirror: String,
        /// The Release file's own date.
        date: jiff::Timestamp,
        /// Fingerprint of the key that signed it.
        key: String,
        /// Whether it differs from what the store had.
        changed: bool,
    },
    /// How much there is to download, and how much the store already has.
    DownloadsPlanned {
        /// Files to download.
        files: u64,
        /// Their size together, where known.
        size_bytes: u64,
        /// Files already in the store.
        present_files: u64,
        /// Their size together.
        present_bytes: u64,
    },
    /// A download began.
    DownloadStarted {
        /// What it is to the user: a package, an index.
        name: String,
        /// Full size, where known.
        size_bytes: Option<u64>,
        /// Bytes kept from an interrupted download.
        resumed_from_bytes: u64,
    },
    /// More of a download arrived; sent several times a second at most.
    DownloadAdvanced {
        /// The name given at its start.
        name: String,
        /// Bytes there now.
        received_bytes: u64,
    },
    /// A download is complete and its digest is right.
    DownloadFinished {
        /// The name given at its start.
        name: String,
        /// Full size.
        size_bytes: u64,
        /// From start to verified.
        took_ms: u64,
    },
    /// A download failed in a way that may pass and will be tried again.
    DownloadRetried {
        /// The name given at its start.
        name: String,
        /// The attempt that failed; the first is 1.
        attempt: u32,
        /// How long until the next.
        wait_ms: u64,
        /// Why it failed.
        reason: String,
    },
    /// All stages of a build are known.
    StagesPlanned {
        /// How many there are.
        stages: u64,
        /// How many of them the store has already.
        cached: u64,
    },
    /// A stage's layer was in the store.
    StageCached {
        /// The class it belongs to.
        class: String,
        /// What it is: `essential set`, `packages`, `step 2: copy site`.
        stage: String,
        /// Name of its layer.
        key: crate::digest::Sha256,
    },
    /// A stage is being carried out.
    StageStarted {
        /// The class it belongs to.
        class: String,
        /// What it is.
        stage: String,
    },
    /// More of a stage is done.
    StageAdvanced {
        /// The class it belongs to.
        class: String,
        /// What it is.
        stage: String,
        /// What is being done: `configuring nginx`.
        doing: String,
        /// How many packages are finished.
        done: u64,
        /// Out of how many.
        total: u64,
    },
    /// A program in a stage wrote a line.
    StageLine {
        /// The class it belongs to.
        class: String,
        /// What it is.
        stage: String,
        /// The line.
        line: String,
    },
    /// A part of a stage took this long.
    StagePart {
        /// The class it belongs to.
        class: String,
        /// What it is.
        stage: String,
        /// Which part: `place`, `configure nginx`.
        part: String,
        /// From its start to its end.
        took_us: u64,
    },
    /// A stage's layer is in the store now.
    StageFinished {
        /// The class it belongs to.
        class: String,
        /// What it is.
        stage: String,
        /// Name of its layer.
        key: crate::digest::Sha256,
        /// From its start to its end.
        took_ms: u64,
    },
    /// A stage failed; why is told at the end.
    StageFailed {
        /// The class it belongs to.
        class: String,
        /// What it is.
        stage: String,
    },
    /// Another process holds what this one needs.
    Waiting {
        /// What for, and who has it where known.
        reason: String,
    },
    /// Something a person should know that does not stop the work.
    Warning {
        /// What.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// Takes events as they happen; called from several threads.
pub trait Report: Send + Sync {
    /// Takes one event. Must be quick: the caller is doing the work.
    fn event(&self, event: Event);
}

/// Forgets every event: for callers that nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Report for Silent {
    fn event(&self, _: Event) {}
}
