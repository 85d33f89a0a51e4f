//! What a finished tree's own programs say of it.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::{Bind, CancelToken, Command as Program, Identity, Sandbox, Tree, Upper, layer};
use serde::{Deserialize, Serialize};

use super::sets::ONE_MORE;

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) question: String,
    /// Everything that was written, and how it ended.
    pub(super) text: String,
}

/// A question, in words of the shell.
struct Question {
    ask: &'static str,
    /// Kiln's tree must have nothing to say; the answers of others need only be equal to the peer's.
    is_silent: bool,
}

const QUESTIONS: &[Question] = &[
    asked("dpkg-query -W -f='${db:Status-Abbrev} ${binary:Package} ${Version}\\n'"),
    silent("dpkg --audit"),
    silent("dpkg --configure -a"),
    asked("dpkg --verify"),
    asked("apt-get check -qq"),
    asked("apt-mark showmanual"),
    asked("apt-mark showauto"),
    asked("update-alternatives --get-selections"),
    asked("dpkg-divert --list | sort"),
    asked("dpkg-statoverride --list || test $? = 1"),
    asked("! test -e /usr/bin/systemd-analyze || systemd-analyze verify --man=no default.target"),
];

const fn asked(ask: &'static str) -> Question {
    Question { ask, is_silent: false }
}

const fn silent(ask: &'static str) -> Question {
    Question { ask, is_silent: true }
}

/// All questions, as they are asked.
pub(super) fn questions() -> Vec<&'static str> {
    QUESTIONS.iter().map(|question| question.ask).collect()
}

/// Where the repository with one more package is seen.
const REPOSITORY: &str = "/run/kiln/repository";

/// A tree, unpacked from its archive.
pub(super) struct Unpacked {
    directory: Utf8PathBuf,
    identity: Identity,
}

impl Unpacked {
    /// Unpacks an archive into a directory, which must not exist.
    pub(super) fn new(archive: &Utf8Path, directory: &Utf8Path) -> anyhow::Result<Self> {
        let identity = Identity::of_caller()?;
        fs::create_dir(directory)?;
        let unpacked = Self { directory: directory.to_owned(), identity };
        let mut command = Command::new("tar");
        command.args(["--extract", "--numeric-owner", "--same-permissions", "--same-owner"]);
        // Devices: an ordinary user cannot make them, and a sandbox has its own.
        command.args(["--xattrs", "--xattrs-include=*", "--exclude=./dev/*", "--file", archive.as_str()]);
        command.args(["--directory", directory.as_str()]).stdin(Stdio::null());
        let status = identity.act(move || command.output().map(|output| (output.status.success(), output.stderr)).ok());
        match status?.with_context(|| format!("run tar on {archive}"))? {
            (true, _) => Ok(unpacked),
            (false, said) => bail!("tar does not unpack {archive}: {}", String::from_utf8_lossy(&said).trim()),
        }
    }

    /// Asks everything.
    pub(super) fn answers(&self) -> anyhow::Result<Vec<Answer>> {
        QUESTIONS
            .iter()
            .map(|question| Ok(Answer { question: question.ask.into(), text: self.ask(question.ask)? }))
            .collect()
    }

    /// Has the suite's own apt install one more package from a repository; in a copy that is thrown away.
    pub(super) fn install_one_more(&self, repository: &Utf8Path) -> anyhow::Result<()> {
        let script = format!(
            "set -e; echo 'deb [trusted=yes] file:{REPOSITORY} ./' > /etc/apt/sources.list\n\
             apt-get update -qq\napt-get install -qq --yes {ONE_MORE}\n{ONE_MORE} > /dev/null\ndpkg --audit"
        );
        let bind = Bind { from: repository.canonicalize_utf8()?, to: REPOSITORY.into(), read_only: true };
        let (ended_well, said) = self.run(&script, vec![bind])?;
        if !ended_well {
            bail!("the suite's apt does not install {ONE_MORE}:\n{said}");
        }
        Ok(())
    }

    fn ask(&self, script: &str) -> anyhow::Result<String> {
        let (ended_well, said) = self.run(script, Vec::new())?;
        Ok(if ended_well { said } else { format!("{said}(failed)\n") })
    }

    fn run(&self, script: &str, binds: Vec<Bind>) -> anyhow::Result<(bool, String)> {
        let tree = Tree { lowers: vec![self.directory.clone()], upper: Upper::Discard };
        let mut sandbox = Sandbox::new(tree, self.identity);
        sandbox.binds = binds;
        sandbox.environment.insert("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned());
        let mut said = String::new();
        let mut on_line = |line: &str| said.push_str(&format!("{line}\n"));
        let exit = sandbox.run(&Program::shell(script), &mut on_line, &CancelToken::new()?)?;
        Ok((exit.ending.is_success(), said))
    }

    /// Removes the directory, whoever owns what is in it.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        layer::remove_tree(&self.directory, self.identity).with_context(|| format!("remove {}", self.directory))
    }
}

/// What is wrong with Kiln's answers: where the peer's differ, and where there should be none.
pub(super) fn compare(kiln: &[Answer], peer: &[Answer]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (question, (kiln, peer)) in QUESTIONS.iter().zip(kiln.iter().zip(peer)) {
        if question.is_silent && !kiln.text.is_empty() {
            wrong.push(format!("`{}` says in Kiln's tree:\n{}", question.ask, kiln.text));
        } else if !question.is_silent && kiln.text != peer.text {
            let differing = |text: &str, other: &str, sign: char| -> String {
                let lines = text.lines().filter(|line| !other.lines().any(|other| other == *line));
                lines.map(|line| format!("    {sign} {line}\n")).collect()
            };
            let (only_peer, only_kiln) =
                (differing(&peer.text, &kiln.text, '-'), differing(&kiln.text, &peer.text, '+'));
            wrong.push(format!("`{}` answers otherwise (- peer, + Kiln):\n{only_peer}{only_kiln}", question.ask));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(texts: impl Fn(usize) -> &'static str) -> Vec<Answer> {
        let answer = |(number, question): (usize, &Question)| Answer {
            question: question.ask.to_owned(),
            text: texts(number).to_owned(),
        };
        QUESTIONS.iter().enumerate().map(answer).collect()
    }

    #[test]
    fn equal_answers_are_right_and_audits_are_silent() {
        assert!(compare(&answers(|_| ""), &answers(|_| "")).is_empty());
        let loud = QUESTIONS.iter().filter(|question| question.is_silent).count();
        assert_eq!(compare(&answers(|_| "x\n"), &answers(|_| "x\n")).len(), loud);
        assert_eq!(compare(&answers(|_| ""), &answers(|_| "x\n")).len(), QUESTIONS.len() - loud);
    }
}
