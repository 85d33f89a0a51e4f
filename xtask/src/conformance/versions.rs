//! The order of versions, shown to dpkg.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use kiln_debian::version;
use kiln_model::digest::Sha256;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::parallel::{self, processors};

/// What was compared.
#[derive(Debug, Serialize)]
pub(super) struct Versions {
    /// Distinct versions in the archives.
    pub(super) distinct: usize,
    /// Pairs that were shown to dpkg: neighbours in Kiln's order, and random ones.
    pub(super) neighbours: usize,
    pub(super) random_pairs: usize,
    /// Pairs of which dpkg says something else.
    pub(super) differences: Vec<String>,
}

/// For each neighbour, so many random pairs.
const RANDOM_SHARE: usize = 4;

/// Prints each line of `LEFT OPERATOR RIGHT` that dpkg does not hold true, then how many it read.
const SCRIPT: &str = "count=0
while read -r left operator right; do
    count=$((count + 1))
    dpkg --compare-versions \"$left\" \"$operator\" \"$right\" || echo \"$left $operator $right\"
done
echo $count";

/// Shows dpkg the neighbours in Kiln's order of all `versions` (or of `sample` of them), and random pairs.
pub(super) fn compare(versions: &BTreeSet<String>, sample: usize, seed: u64) -> anyhow::Result<Versions> {
    let mut random = ChaCha8Rng::from_seed(*Sha256::of(format!("versions {seed}").as_bytes()).as_bytes());
    let mut below = |limit: usize| usize::try_from(random.next_u64()).unwrap_or_default() % limit.max(1);
    let mut sorted: Vec<&str> = versions.iter().map(String::as_str).collect();
    sorted.sort_by(|left, right| version::compare(left, right));
    let mut neighbours: Vec<String> = sorted.windows(2).map(|pair| statement(pair[0], pair[1])).collect();
    while neighbours.len() > sample {
        neighbours.swap_remove(below(neighbours.len()));
    }
    let pair = |_| statement(sorted[below(sorted.len())], sorted[below(sorted.len())]);
    let random_pairs: Vec<String> = (0..neighbours.len() / RANDOM_SHARE).map(pair).collect();
    let statements: Vec<&String> = neighbours.iter().chain(&random_pairs).collect();
    let parts: Vec<&[&String]> = statements.chunks(statements.len().div_ceil(processors()).max(1)).collect();
    let wrong = parallel::map(&parts, |part| ask_dpkg(part)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Versions {
        distinct: sorted.len(),
        neighbours: neighbours.len(),
        random_pairs: random_pairs.len(),
        differences: wrong.concat(),
    })
}

/// What Kiln says of two versions, in dpkg's words.
fn statement(left: &str, right: &str) -> String {
    let operator = match version::compare(left, right) {
        Ordering::Less => "lt",
        Ordering::Equal => "eq",
        Ordering::Greater => "gt",
    };
    format!("{left} {operator} {right}")
}

/// The statements that dpkg does not agree with.
fn ask_dpkg(statements: &[&String]) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new("sh");
    let mut child =
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run sh")?;
    let text: String = statements.iter().map(|statement| format!("{statement}\n")).collect();
    let mut input = child.stdin.take().context("write to sh")?;
    // The answers are read at the same time, or both sides would wait for each other.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("read from sh")?;
    writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("write to sh")?;
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if lines.pop().and_then(|count| count.parse().ok()) != Some(statements.len()) {
        bail!("the loop around dpkg did not reach its end");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_contradicts_what_is_wrong() {
        let statements = ["1 lt 2".to_owned(), "1 gt 2".to_owned(), "1.0 eq 1.00".to_owned()];
        let statements: Vec<&String> = statements.iter().collect();
        assert_eq!(ask_dpkg(&statements).unwrap(), ["1 gt 2"]);
    }

    #[test]
    fn states_what_kiln_says() {
        assert_eq!(statement("1.0~rc1", "1.0"), "1.0~rc1 lt 1.0");
        assert_eq!(statement("1:1", "2"), "1:1 gt 2");
        assert_eq!(statement("1.0", "1.00"), "1.0 eq 1.00");
    }
}
